"""Results of searches as statements and as a table, on validation and on held-out data.

The difference between both splits shows how much the selection of the best point biases its value.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dgray.data.summary import counted
from dgray.reporting.estimate import Estimate
from dgray.reporting.searches import SearchPoints, value_of
from dgray.reporting.selection import number, short, weight_text
from dgray.reporting.text.statement import Statement, listed

_STATES = {"PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "not finished"}


@dataclass(frozen=True)
class SearchLine:
    """One metric of the point that a search selected."""

    search: str
    points: str
    selected: str
    metric: str
    validation: Estimate | None
    held_out: Estimate | None


def search_statements(searches: tuple[SearchPoints, ...]) -> list[Statement]:
    """Return a statement per search on its best point; none for a grid."""
    texts = [_sentence(search) for search in searches]
    if texts:
        texts.append(
            "Of the trials of searches, all other statements and figures of this report show only "
            "those of the selected points."
        )
    return [Statement("searches", text) for text in texts]


def search_lines(searches: tuple[SearchPoints, ...]) -> list[SearchLine]:
    """Return a line for each metric of each search that has a finished point."""
    return [
        SearchLine(
            search=search.label,
            points=_counts(search),
            selected=f"{_fields(search, best)}; {_setting(best)}",
            metric=metric,
            validation=value_of(best, f"validation:{metric}"),
            held_out=value_of(best, metric),
        )
        for search in searches
        if (best := search.best()) is not None
        for metric in search.metrics
    ]


def _sentence(search: SearchPoints) -> str:
    best, counts = search.best(), _counts(search)
    if best is None:
        return f"The search {search.label} has no finished point yet ({counts})."
    metric = search.first_metric
    value = f"{metric} {value_of(best, f'validation:{metric}')} on validation"
    held_out = value_of(best, metric)
    if held_out is not None:
        value += (
            f", by which it was selected, and {held_out} on held-out data, which took no part in "
            f"the selection"
        )
    violated = " It violates the constraints, as do all points." if best["excess"] > 0 else ""
    front = ""
    if len(search.metrics) > 1:
        finished = counted(len(search.done), "finished point")
        front = (
            f" On validation, {len(search.front())} of {finished} are on the Pareto front of "
            f"{listed(list(search.metrics))}{_meeting(search)}."
        )
    fields = _fields(search, best) or "its only point"
    return (
        f"The search {search.label} ({counts}) selected {fields} at {_setting(best)}: "
        f"{value}.{violated}{front}"
    )


def _counts(search: SearchPoints) -> str:
    counts = search.points["state"].value_counts()
    other = [f"{counts[state]} {text}" for state, text in _STATES.items() if state in counts]
    return ", ".join([counted(len(search.points), "point"), *other])


def _meeting(search: SearchPoints) -> str:
    """Return how many points violate the constraints, which excludes them from the front."""
    violating = int((search.done["excess"] > 0).sum())
    return f", which leaves out the {violating} that violate the constraints" if violating else ""


def _fields(search: SearchPoints, best: pd.Series) -> str:
    return ", ".join(
        f"{short(name)} {_rounded(best[name])}"
        for name in search.fields
        if not pd.isna(best[name])
    )


def _rounded(value: object) -> str:
    """Round numbers that a sampler drew; search.parquet holds all digits."""
    is_drawn = isinstance(value, float) and not value.is_integer()
    return f"{value:.3g}" if is_drawn else number(value)


def _setting(best: pd.Series) -> str:
    weight = None if best["is_calibrated"] else best["guidance_weight"]
    return f"epoch {best['epoch']:g}, {weight_text(weight, 'calibrated')}"
