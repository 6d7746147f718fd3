"""Averages over replicates, and the samplers' lenses side by side.

The replicates of a trial are evaluated on the same held-out points, so their own standard errors
e_r do not average out while the spread between them does:

    se^2 = var_r(m_r) / R + mean_r(e_r^2)

With one replicate only the second term is known; a metric without its own error has only the
first.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgray.row import column_names

SETTING = (
    "is_calibrated",
    "guidance_weight",
    "sampler",
    "num_steps",
    "guided_stage",
    "interval_low",
    "interval_high",
)
_LISTS = (
    "path_kl_bins",
    "score_error_bins",
    "loss_train_bins",
    "loss_held_out_bins",
    "sigma_edges",
    "calibrated_sigmas",
    "calibrated_weights",
)
# Metrics that depend on the sampler; the others are read off whichever row has them.
OF_SAMPLER = ("kl_sde", "kl_sde_floor", "kl_sampler", "memorisation")
SCALARS = tuple(
    name
    for name in column_names("metric")
    if not name.endswith("_se") and name not in _LISTS and name != "guidance_weight"
)


def aggregate(rows: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """A line per (trial, epoch, setting): mean and standard error of every metric."""
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return ok.assign(replicates=0)
    group = ok.groupby(["trial", "epoch", *SETTING], dropna=False, sort=False)
    result = group[["label", "objective", *axes]].first()
    result["replicates"] = group["replicate"].nunique()
    columns: dict[str, pd.Series] = {}
    for name in SCALARS:
        columns[name] = group[name].mean()
        columns[f"{name}_se"] = _standard_error(ok, group, name)
    for name in _LISTS:
        columns[name] = group[name].agg(_mean_list)
        columns[f"{name}_se"] = group[name].agg(_list_error)
    return pd.concat([result, pd.DataFrame(columns)], axis=1).reset_index()


def merge_samplers(lines: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """A line per (trial, epoch, weight, interval, stage), each metric from its own sampler.

    Where several samplers have a metric, the first of ``ode``, ``sde``, ``churn`` with most steps
    is taken. ``base_trial`` names the unguided model of the same data, and ``kl_sde_change``
    compares with its value (unpaired: both are independent samples).
    """
    if lines.empty:
        return lines.assign(base_trial=None, kl_sde_change=np.nan, kl_sde_change_se=np.nan)
    preference = {"ode": 0, "sde": 1, "churn": 2}
    ordered = lines.assign(_sampler=lines["sampler"].map(preference), _order=range(len(lines)))
    ordered = ordered.sort_values(
        ["_sampler", "num_steps"], ascending=[True, False], kind="stable"
    )
    key = ["trial", "epoch", *(k for k in SETTING if k not in ("sampler", "num_steps"))]
    ordered["_order"] = ordered.groupby(key, dropna=False)["_order"].transform("min")
    cells = ordered.groupby(key, dropna=False, sort=False).first().reset_index()
    cells = cells.sort_values("_order").drop(columns=["_sampler", "_order", "sampler"])
    return _with_base(cells.reset_index(drop=True), axes)


def _with_base(cells: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    bases = cells[cells["objective"] == "base"]
    matches = [_matching(bases, cell, axes) for _, cell in cells.iterrows()]
    value = np.array([np.nan if base is None else base["kl_sde"] for base in matches], float)
    error = np.array([np.nan if base is None else base["kl_sde_se"] for base in matches], float)
    return cells.assign(
        base_trial=[None if base is None else base["trial"] for base in matches],
        kl_sde_change=cells["kl_sde"].astype(float) - value,
        kl_sde_change_se=np.hypot(cells["kl_sde_se"].astype(float), error),
    )


def _matching(bases: pd.DataFrame, cell: pd.Series, axes: tuple[str, ...]) -> pd.Series | None:
    """The base whose axes (data, noise range, ...) are those of the cell."""
    for _, base in bases.iterrows():
        if all(pd.isna(base[axis]) or base[axis] == cell[axis] for axis in axes):
            return base
    return None


def _standard_error(ok: pd.DataFrame, group: object, name: str) -> pd.Series:
    keys = [ok[key] for key in ("trial", "epoch", *SETTING)]
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


def _list_error(values: pd.Series) -> np.ndarray | None:
    """Spread between replicates only: bins carry no errors of their own."""
    stacked = _stack(values)
    if stacked is None or len(stacked) < 2:
        return None
    return np.asarray(stacked.std(axis=0, ddof=1) / np.sqrt(len(stacked)))


def _stack(values: pd.Series) -> np.ndarray | None:
    lists = [value for value in values if value is not None and len(value)]
    return np.array(lists, float) if lists and len({len(v) for v in lists}) == 1 else None
