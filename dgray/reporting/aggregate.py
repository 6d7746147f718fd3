"""Averages over replicates, and the samplers' lenses side by side.

The replicates of a trial are evaluated on the same held-out points, so their own standard errors
e_r do not average out while the spread between them does:

    se^2 = var_r(m_r) / R + mean_r(e_r^2)

With one replicate only the second term is known; a metric without its own error has only the
first. A metric that some replicates of a cell lack is missing from the cell: what is left out is
often what diverged, and the mean of the rest would flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgray.catalogue import METRIC_COLUMNS, METRICS, ColumnSpec, with_errors
from dgray.plan.plan import SETTING_COLUMNS

# Metrics that depend on the sampler; the others are read off whichever row has them.
OF_SAMPLER = tuple(
    column.name
    for column in METRIC_COLUMNS
    if column.source in ("samples", "features")
    and column.name != "fd_floor"
    and not column.name.endswith("_se")
)
_OF_SDE = [
    column.name
    for metric in METRICS.built_in
    if metric.needs_sampler == "stochastic"
    for column in with_errors(metric.columns)
]


def aggregate(
    rows: pd.DataFrame, axes: tuple[str, ...], metrics: Sequence[ColumnSpec]
) -> pd.DataFrame:
    """Return a line per (trial, epoch, setting): mean and standard error of every metric.

    Args:
        rows: table of rows.
        axes: columns of the training axes.
        metrics: columns to average, without those of standard errors.
    """
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return ok.assign(replicates=0)
    group = ok.groupby(["trial", "epoch", *SETTING_COLUMNS], dropna=False, sort=False)
    result = group[["label", "objective", *axes]].first()
    result["replicates"] = group["replicate"].nunique()
    columns: dict[str, pd.Series] = {}
    for name in (column.name for column in metrics if column.type != "floats"):
        mean = group[name].mean().where(group[name].count() == group.size())
        columns[name] = mean
        columns[f"{name}_se"] = _standard_error(ok, name).where(np.isfinite(mean))
    for name in (column.name for column in metrics if column.type == "floats"):
        columns[name] = group[name].agg(_mean_list)
        columns[f"{name}_se"] = _list_errors(ok, group, name)
    return pd.concat([result, pd.DataFrame(columns)], axis=1).reset_index()


def merge_samplers(lines: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """A line per (trial, epoch, weight, interval, stage), each metric from its own sampler.

    Where several samplers have a metric, the first of ``ode``, ``sde``, ``churn`` with most steps
    is taken. ``base_trial`` names the unguided model of the same data.
    """
    if lines.empty:
        return lines.assign(base_trial=None)
    preference = {"ode": 0, "sde": 1, "churn": 2}
    ordered = lines.assign(_sampler=lines["sampler"].map(preference), _order=range(len(lines)))
    ordered = ordered.sort_values(
        ["_sampler", "num_steps"], ascending=[True, False], kind="stable"
    )
    key = ["trial", "epoch", *(k for k in SETTING_COLUMNS if k not in ("sampler", "num_steps"))]
    ordered["_order"] = ordered.groupby(key, dropna=False)["_order"].transform("min")
    # kl_sde, its change and their errors are of one sampler, also where that one diverged.
    first = ordered[ordered["sampler"] != "ode"].drop_duplicates(key).index
    ordered.loc[~ordered.index.isin(first), _OF_SDE] = np.nan
    cells = ordered.groupby(key, dropna=False, sort=False).first().reset_index()
    cells = cells.sort_values("_order").drop(columns=["_sampler", "_order", "sampler"])
    return _with_base(cells.reset_index(drop=True), axes)


def _with_base(cells: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    bases = cells[cells["objective"] == "base"]
    return cells.assign(base_trial=[_matching(bases, cell, axes) for _, cell in cells.iterrows()])


def _matching(bases: pd.DataFrame, cell: pd.Series, axes: tuple[str, ...]) -> str | None:
    """The trial of the base whose axes (data, noise range, ...) are those of the cell."""
    for _, base in bases.iterrows():
        if all(pd.isna(base[axis]) or base[axis] == cell[axis] for axis in axes):
            return str(base["trial"])
    return None


def _standard_error(ok: pd.DataFrame, name: str) -> pd.Series:
    keys = [ok[key] for key in ("trial", "epoch", *SETTING_COLUMNS)]
    values = ok[name].astype(float).groupby(keys, dropna=False, sort=False)
    between = values.var(ddof=1) / values.count()
    own_name = f"{name}_se"
    if own_name not in ok:
        return between.pow(0.5)
    squares = ok[own_name].astype(float).pow(2)
    own = squares.groupby(keys, dropna=False, sort=False).mean()
    return between.fillna(0).add(own.fillna(0)).where(between.notna() | own.notna()).pow(0.5)


def _mean_list(values: pd.Series) -> np.ndarray | None:
    stacked = _stack(values)
    return None if stacked is None else stacked.mean(axis=0)


def _list_errors(ok: pd.DataFrame, group: Any, name: str) -> pd.Series:
    """Like ``_standard_error``, element by element."""
    between = group[name].agg(_squared_spread)
    own = group[f"{name}_se"].agg(_mean_square) if f"{name}_se" in ok else [None] * len(between)
    pairs = zip(between, own, strict=True)
    terms = [[term for term in pair if isinstance(term, np.ndarray)] for pair in pairs]
    errors = [np.sqrt(sum(each)) if each else None for each in terms]
    return pd.Series(errors, between.index, object)


def _squared_spread(values: pd.Series) -> np.ndarray | None:
    stacked = _stack(values)
    if stacked is None or len(stacked) < 2:
        return None
    return np.asarray(stacked.var(axis=0, ddof=1) / len(stacked))


def _mean_square(errors: pd.Series) -> np.ndarray | None:
    stacked = _stack(errors)
    return None if stacked is None else np.asarray((stacked**2).mean(axis=0))


def _stack(values: pd.Series) -> np.ndarray | None:
    """A line per replicate; None if one of them has no list."""
    lists = [value for value in values if value is not None and len(value)]
    is_whole = len(lists) == len(values) and len({len(each) for each in lists}) == 1
    return np.array(lists, float) if is_whole else None
