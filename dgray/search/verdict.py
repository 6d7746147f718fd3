"""From the rows of a trial to what a search is told: its best setting on the validation split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dgray.config.search import OptunaSearch, validation_column

SETTING = (
    "epoch",
    "is_calibrated",
    "guidance_weight",
    "sampler",
    "num_steps",
    "guided_stage",
    "interval_low",
    "interval_high",
)


@dataclass(frozen=True)
class Verdict:
    """What a point is worth.

    Attributes:
        values: of the metrics that are optimised, means over replicates.
        excess: of each constraint, the metric minus its bound; met where <= 0.
        setting: epoch, weight and the rest at which these were found.
    """

    values: tuple[float, ...]
    excess: dict[str, float]
    setting: dict[str, Any]


def judge(rows: pd.DataFrame, search: OptunaSearch) -> Verdict | None:
    """The best setting of these rows; None where no setting has every number.

    All numbers are of the same setting and are means over replicates. Settings that meet the
    constraints come first, and of these the one that is best in the first metric.
    """
    found = [
        _verdict(group, rows, search) for _, group in rows.groupby(list(SETTING), dropna=False)
    ]
    known = [verdict for verdict in found if verdict is not None]
    sign = 1 if next(iter(search.metrics.values())) == "minimize" else -1

    def order(verdict: Verdict) -> tuple[float, float]:
        return sum(max(0.0, e) for e in verdict.excess.values()), sign * verdict.values[0]

    return min(known, key=order, default=None)


def _verdict(group: pd.DataFrame, rows: pd.DataFrame, search: OptunaSearch) -> Verdict | None:
    names = [*search.metrics, *search.constraints]
    means = {name: _mean(name, group, rows) for name in names}
    if not all(math.isfinite(value) for value in means.values()):
        return None
    setting = {name: _plain(group[name].iloc[0]) for name in SETTING}
    return Verdict(
        tuple(means[name] for name in search.metrics),
        {name: means[name] - bound for name, bound in search.constraints.items()},
        setting,
    )


def _mean(name: str, group: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Of one metric over replicates; nan if one of them has none."""
    if name == "fit_seconds":  # of all replicates together, up to this checkpoint
        until = rows[rows["epoch"] <= group["epoch"].iloc[0]]
        return float(until.drop_duplicates("epoch")["seconds_fit"].sum())
    values = group[validation_column(name) or name].astype(float)
    return math.nan if values.isna().any() else float(values.mean())


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value
