"""Gain of each correction against the cost of its training, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from dgray.reporting.comparisons import Comparison, Comparisons
from dgray.reporting.presentation import SELECTION
from dgray.reporting.selection import main_weight

FLOPS = "train_flops"
EQUAL_COST = 1.05  # costs of at most this ratio are equal: a budget is spent in whole epochs


@dataclass(frozen=True)
class CostPoint:
    """One correction at one checkpoint, at the weight that is best on the validation split.

    Attributes:
        comparison: its comparison with the base.
        flops: operations of the training of one replicate.
        is_front: no model of at most this cost, the base included, has a lower value.
    """

    comparison: Comparison
    flops: float
    is_front: bool = False

    @property
    def objective(self) -> str:
        """Correction with its objective."""
        return str(self.comparison.model["objective"])


def compares_costs(models: pd.DataFrame) -> bool:
    """Return whether models of several corrections have a training cost."""
    if FLOPS not in models or "correction" not in models:
        return False
    return bool(models.loc[models[FLOPS].notna(), "correction"].nunique() > 1)


def cost_points(comparisons: Comparisons, metric: str) -> list[CostPoint]:
    """Return a point for each correction, base and checkpoint, those of least cost first.

    The weight is selected on the validation split; for a correction without a value there, it is
    the constant weight nearest to 1.
    """
    groups: dict[tuple[str, int], list[Comparison]] = {}
    for comparison in comparisons.trained:
        model = comparison.model
        if comparison.metric == metric and pd.notna(model.get(FLOPS)):
            key = str(model["trial"]), int(model["epoch"])
            groups.setdefault(key, []).append(comparison)
    chosen = [_selected(group) for group in groups.values()]
    points = [CostPoint(c, float(c.model[FLOPS])) for c in chosen if pd.notna(c.estimate.value)]
    return list(_with_front(sorted(points, key=lambda point: point.flops)))


def _selected(group: Sequence[Comparison]) -> Comparison:
    valued = [c for c in group if pd.notna(c.model[SELECTION])]
    if valued:
        return min(valued, key=lambda c: float(c.model[SELECTION]))
    weight = main_weight(pd.DataFrame([c.model for c in group]))
    return next((c for c in group if c.model["guidance_weight"] == weight), group[0])


def _with_front(points: Sequence[CostPoint]) -> Iterator[CostPoint]:
    """Mark the points that no point of at most their cost is below, and that the base is not."""
    for point in points:
        cost = point.flops * EQUAL_COST
        rivals = [other.comparison.estimate.value for other in points if other.flops <= cost]
        yield replace(point, is_front=point.comparison.estimate.value <= min(rivals) < 0)
