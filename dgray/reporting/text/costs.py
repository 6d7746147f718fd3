"""Statements on corrections: which beat the base, and which are on the front of gain and cost."""

from __future__ import annotations

from collections.abc import Iterator

from dgray.reporting.comparisons import Comparisons, compared_metrics
from dgray.reporting.costs import compares_costs, cost_points
from dgray.reporting.presentation import in_sentence, objective
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Statement, listed

COSTS = "corrections and cost"


def cost_statements(table: StudyTable, comparisons: Comparisons) -> Iterator[Statement]:
    """Yield a statement for every metric by which several corrections are compared."""
    if not compares_costs(table.models):
        return
    for metric in compared_metrics(table):
        points = cost_points(comparisons, metric)
        names = list(dict.fromkeys(point.objective for point in points))
        tested = [point for point in points if point.comparison.is_tested]
        if len(names) < 2 or not tested:
            continue
        better = {point.objective for point in tested if point.comparison.sign < 0}
        worse = {point.objective for point in tested if point.comparison.sign > 0}
        front = {point.objective for point in points if point.is_front}
        yield Statement(
            COSTS,
            f"At the weights selected on the validation split, the {table.title(metric)} is "
            f"significantly below that of the base at some checkpoint for "
            f"{_named(names, better)}, and above it for {_named(names, worse)} (adjusted for "
            f"all comparisons with the base). {_front_text(names, front)}",
            "gain" if better and not worse else "harm" if worse and not better else "neutral",
        )


def _front_text(names: list[str], front: set[str]) -> str:
    verb = "is" if len(front) == 1 else "are"
    named = _named(names, front)
    return f"Of these, {named} {verb} on the Pareto front of the change against training FLOPs."


def _named(names: list[str], chosen: set[str]) -> str:
    return listed([in_sentence(objective(name)) for name in names if name in chosen] or ["none"])
