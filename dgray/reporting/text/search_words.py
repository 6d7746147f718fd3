"""What searches found, in words and as the lines of a table: both splits, so that one can see how
far the choice of the best point flatters it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dgray.reporting.search_table import CellPoints, value_of
from dgray.reporting.text.statement import Statement, listed
from dgray.reporting.text.summary import Estimate
from dgray.reporting.views import number, short

_STATES = {"PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "not finished"}


@dataclass(frozen=True)
class SearchLine:
    """One metric of the point that one search chose."""

    search: str
    points: str
    chosen: str
    metric: str
    validation: Estimate | None
    held_out: Estimate | None


def search_statements(searches: tuple[CellPoints, ...]) -> list[Statement]:
    """What each search found, on both splits; none of a grid."""
    found = [_sentence(search) for search in searches]
    if found:
        found.append(
            "All sentences and figures that are not of the searches themselves are about the "
            "points that they chose."
        )
    return [Statement("searches", text) for text in found]


def search_lines(searches: tuple[CellPoints, ...]) -> list[SearchLine]:
    """A line for each metric of each search that has a finished point."""
    return [
        SearchLine(
            search=search.label,
            points=_counts(search),
            chosen=f"{_fields(search, best)}; {_where(best)}",
            metric=metric,
            validation=value_of(best, f"validation:{metric}"),
            held_out=value_of(best, metric),
        )
        for search in searches
        if (best := search.best()) is not None
        for metric in search.metrics
    ]


def _sentence(search: CellPoints) -> str:
    best, counts = search.best(), _counts(search)
    if best is None:
        return f"The search {search.label} has no finished point yet ({counts})."
    metric = search.first_metric
    told = f"{metric} {value_of(best, f'validation:{metric}')} on validation"
    held_out = value_of(best, metric)
    if held_out is not None:
        told += f", by which it was chosen, and {held_out} on held-out data, free of the choice"
    several = ""
    if len(search.metrics) > 1:
        several = (
            f" Of {len(search.done)} finished points {len(search.front())} are on the Pareto "
            f"front of {listed(list(search.metrics))}."
        )
    broken = " It breaks the constraints, as all its points do." if best["excess"] > 0 else ""
    what = _fields(search, best) or "its only point"
    return (
        f"The search {search.label} ({counts}) chose {what} at {_where(best)}: "
        f"{told}.{broken}{several}"
    )


def _counts(search: CellPoints) -> str:
    counts = search.points["state"].value_counts()
    other = [f"{counts[state]} {words}" for state, words in _STATES.items() if state in counts]
    return ", ".join([f"{len(search.points)} points", *other])


def _fields(search: CellPoints, best: pd.Series) -> str:
    return ", ".join(
        f"{short(name)} {_rounded(best[name])}"
        for name in search.fields
        if not pd.isna(best[name])
    )


def _rounded(value: object) -> str:
    """Drawn numbers have more digits than anyone wants to read; search.parquet has them all."""
    is_drawn = isinstance(value, float) and not value.is_integer()
    return f"{value:.3g}" if is_drawn else number(value)


def _where(best: pd.Series) -> str:
    weight = "calibrated" if best["is_calibrated"] else f"w = {best['guidance_weight']:g}"
    return f"epoch {best['epoch']:g}, {weight}"
