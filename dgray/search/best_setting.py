"""Best evaluation setting of a trial on the validation split: the outcome that a search gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dgray.catalogue import SETTING_COLUMNS
from dgray.config.search import COSTS, OptunaSearch, validation_column

SETTING = ("epoch", *SETTING_COLUMNS)


@dataclass(frozen=True)
class BestSetting:
    """A setting of a trial with the metrics of its rows.

    Attributes:
        values: values of the optimised metrics, averaged over replicates.
        excess: metric minus bound of each constraint; the constraint is met if <= 0.
        setting: columns that identify the rows: epoch, guidance weight, sampler, ...
    """

    values: tuple[float, ...]
    excess: dict[str, float]
    setting: dict[str, Any]


def best_setting(rows: pd.DataFrame, search: OptunaSearch) -> BestSetting | None:
    """Return the best setting of these rows; None if no setting has a finite value of each metric.

    Settings that meet the constraints come first, and of these the best in the first metric.
    """
    groups = rows.groupby(list(SETTING), dropna=False)
    settings = [s for _, group in groups if (s := _measured(group, rows, search)) is not None]
    sign = 1 if next(iter(search.metrics.values())) == "minimize" else -1

    def order(setting: BestSetting) -> tuple[float, float]:
        return sum(max(0.0, e) for e in setting.excess.values()), sign * setting.values[0]

    return min(settings, key=order, default=None)


def held_out_metrics(
    rows: pd.DataFrame, setting: dict[str, Any], search: OptunaSearch
) -> dict[str, float]:
    """Return the metrics on held-out data at a setting, averaged over replicates."""
    keep = pd.Series(True, index=rows.index)
    for name in SETTING:
        value = setting[name]
        keep &= rows[name].isna() if value is None else rows[name] == value
    measured = [name for name in (*search.metrics, *search.constraints) if name not in COSTS]
    means = {name: rows.loc[keep, name].astype(float).mean() for name in measured}
    return {name: float(value) for name, value in means.items() if pd.notna(value)}


def _measured(group: pd.DataFrame, rows: pd.DataFrame, search: OptunaSearch) -> BestSetting | None:
    means = {name: _mean(name, group, rows) for name in (*search.metrics, *search.constraints)}
    if not all(math.isfinite(value) for value in means.values()):
        return None
    return BestSetting(
        tuple(means[name] for name in search.metrics),
        {name: means[name] - bound for name, bound in search.constraints.items()},
        {name: _json_value(group[name].iloc[0]) for name in SETTING},
    )


def _mean(name: str, group: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Return the mean of a metric over replicates; NaN if one of them has no value."""
    if name == "fit_seconds":  # of all replicates together, up to this checkpoint
        until = rows[rows["epoch"] <= group["epoch"].iloc[0]]
        return float(until.drop_duplicates("epoch")["seconds_fit"].sum())
    values = group[validation_column(name) or name].astype(float)
    return math.nan if values.isna().any() else float(values.mean())


def _json_value(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value
