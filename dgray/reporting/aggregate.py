"""Averages over replicates, and the metrics of several samplers side by side.

The replicates of a trial are evaluated on the same held-out points, so that their own standard
errors e_r do not average out while the spread between them does:

    se^2 = var_r(m_r) / R + mean_r(e_r^2)

With one replicate only the second term is defined; a metric without its own error has only the
first. A metric that is missing in some replicates is missing in the average: the others are often
those that did not diverge, so that their mean would be too good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgray.catalogue import SETTING_COLUMNS
from dgray.reporting.presentation import (
    BASE,
    columns_of_stochastic_samplers,
    sampler_preference,
    sampler_spec,
)

ModelKey = tuple[Any, ...]
"""Values of ``MODEL_COLUMNS``, None if they are missing."""

MODEL_COLUMNS = (  # identify a guided model: a checkpoint with a setting, of any sampler
    "trial",
    "epoch",
    *(name for name in SETTING_COLUMNS if name not in ("sampler", "num_steps")),
)


def model_keys(rows: pd.DataFrame) -> list[ModelKey]:
    """Return the key of the guided model of each row."""
    return setting_keys(rows, MODEL_COLUMNS)


def model_key(model: pd.Series) -> ModelKey:
    """Return the key of a guided model."""
    values = (model[name] for name in MODEL_COLUMNS)
    return tuple(None if pd.isna(value) else value for value in values)


def setting_keys(rows: pd.DataFrame, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the values of some columns of each row, None if they are missing."""
    values = (rows[name].astype(object).where(rows[name].notna(), None) for name in columns)
    return list(zip(*values, strict=True))


def aggregate(rows: pd.DataFrame, axes: tuple[str, ...], columns: tuple[str, ...]) -> pd.DataFrame:
    """Average over replicates.

    Args:
        rows: the rows of a study.
        axes: training axes, which are columns of ``rows``.
        columns: columns to average: numbers, and lists of numbers, averaged by element.

    Returns:
        One row per (trial, epoch, setting) with the mean of every column and its standard error
        ``{column}_se``.
    """
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return ok.assign(replicates=0)
    keys = [ok[key] for key in ("trial", "epoch", *SETTING_COLUMNS)]
    group = ok.groupby(["trial", "epoch", *SETTING_COLUMNS], dropna=False, sort=False)
    result = group[["label", "objective", "correction", *axes]].first()
    result["replicates"] = group["replicate"].nunique()
    lists = [name for name in columns if ok[name].dtype == object and ok[name].notna().any()]
    means, errors = _scalars(ok, keys, [name for name in columns if name not in lists])
    parts = [result, means, errors]
    for name in lists:
        of_list = _lists(ok, name, group.ngroup().to_numpy(), len(result))
        parts.append(of_list.set_axis(result.index))
    return pd.concat(parts, axis=1).reset_index()


def merge_samplers(lines: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """Merge the rows of a guided model, which differ in the sampler only.

    Returns:
        One row per (trial, epoch, weight, interval, stage), each metric from its own sampler:
        where several have it, from the first by ``sampler_preference`` with most steps.
        ``base_trial`` is the trial of the unguided model on the same data.
    """
    if lines.empty:
        return lines.assign(base_trial=None)
    ranks = {name: sampler_preference(name) for name in lines["sampler"].unique()}
    order = sorted(ranks, key=lambda name: ranks[name])
    ordered = lines.assign(_sampler=lines["sampler"].map(order.index), _order=range(len(lines)))
    ordered = ordered.sort_values(
        ["_sampler", "num_steps"], ascending=[True, False], kind="stable"
    )
    key = list(MODEL_COLUMNS)
    ordered["_order"] = ordered.groupby(key, dropna=False)["_order"].transform("min")
    # A metric of stochastic samplers, its change and their errors are from one sampler, also if
    # that one diverged.
    is_stochastic = [sampler_spec(name).is_stochastic for name in ordered["sampler"]]
    first = ordered[np.array(is_stochastic)].drop_duplicates(key).index
    names = [name for name in ordered if name in columns_of_stochastic_samplers()]
    ordered.loc[~ordered.index.isin(first), names] = np.nan
    models = ordered.groupby(key, dropna=False, sort=False).first().reset_index()
    models = models.sort_values("_order").drop(columns=["_sampler", "_order", "sampler"])
    models = models.reset_index(drop=True)
    bases = models[models["objective"] == BASE.name]
    trials = models.drop_duplicates("trial")[["trial", *axes]]
    base_trials = {row["trial"]: _base(bases, row, axes) for _, row in trials.iterrows()}
    return models.assign(base_trial=[base_trials[trial] for trial in models["trial"]])


def _base(bases: pd.DataFrame, model: pd.Series, axes: tuple[str, ...]) -> str | None:
    """Trial of the base whose axes (data, noise range, ...) are those of the model."""
    for _, base in bases.iterrows():
        if all(pd.isna(base[axis]) or base[axis] == model[axis] for axis in axes):
            return str(base["trial"])
    return None


def _scalars(
    ok: pd.DataFrame, keys: list[pd.Series], names: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means of columns of numbers, and their standard errors as ``{name}_se``."""
    values = ok[names].astype(float)
    group = values.groupby(keys, dropna=False, sort=False)
    count = group.count()
    mean = group.mean().where(count.eq(group.size(), axis=0))
    between = group.var(ddof=1) / count
    own = pd.DataFrame({name: ok.get(f"{name}_se", np.nan) for name in names}, ok.index)
    own = own.astype(float).pow(2).groupby(keys, dropna=False, sort=False).mean()
    squares = between.fillna(0).add(own.fillna(0)).where(between.notna() | own.notna())
    errors = squares.pow(0.5).where(np.isfinite(mean))
    return mean, errors.add_suffix("_se")


def _lists(ok: pd.DataFrame, name: str, groups: np.ndarray, num_groups: int) -> pd.DataFrame:
    """Average a column of lists by element; return its means and standard errors by group.

    Args:
        ok: the rows.
        name: the column.
        groups: group of each row, 0 to ``num_groups`` - 1.
        num_groups: number of groups.
    """
    means, squares = np.full((2, num_groups), None, object)
    for chosen, counts, lists in _stacked(ok[name], groups):
        mean = _mean_of_groups(lists, counts)
        with np.errstate(invalid="ignore"):  # infinite values have no deviation
            deviations = lists - np.repeat(mean, counts, axis=0)
        between = _mean_of_groups(deviations**2, counts)
        means[chosen] = np.fromiter(mean, object, len(mean))
        repeated = counts > 1
        spread = between[repeated] / (counts[repeated, None] - 1)
        squares[chosen[repeated]] = np.fromiter(spread, object, len(spread))
    if f"{name}_se" in ok:
        for chosen, counts, own in _stacked(ok[f"{name}_se"], groups):
            for group, square in zip(chosen, _mean_of_groups(own**2, counts), strict=True):
                squares[group] = square if squares[group] is None else squares[group] + square
    errors = [None if square is None else np.sqrt(square) for square in squares]
    return pd.DataFrame({name: means, f"{name}_se": errors})


def _stacked(
    values: pd.Series, groups: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the groups whose lists have one length, for each length.

    Groups in which one has no list are left out.

    Yields:
        The groups, (G,), the number of lists of each, (G,), and all lists in their order,
        (lists, length).
    """
    lengths = np.array([0 if item is None else len(item) for item in values])
    frame = pd.DataFrame({"group": groups, "length": lengths})
    of_group = frame.groupby("group")["length"]
    is_even = (of_group.transform("min") == of_group.transform("max")).to_numpy()
    for length in np.unique(lengths[is_even & (lengths > 0)]):
        lines = np.flatnonzero(is_even & (lengths == length))
        lines = lines[np.argsort(groups[lines], kind="stable")]
        chosen, counts = np.unique(groups[lines], return_counts=True)
        yield chosen, counts, np.array([*values.to_numpy()[lines]], float)


def _mean_of_groups(lists: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of consecutive groups of lists, (G, length)."""
    starts = np.cumsum(counts) - counts
    return np.asarray(np.add.reduceat(lists, starts, axis=0) / counts[:, None])
