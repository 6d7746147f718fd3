"""Estimates of the KL divergence of the base from discriminators, and their exact values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dgray.reporting.aggregate import model_key
from dgray.reporting.comparisons import Comparison, adjusted, replicates_by_model, tested
from dgray.reporting.estimate import Estimate, estimate
from dgray.reporting.presentation import exact_ratio, objective, ratio_estimates
from dgray.reporting.table import StudyTable


@dataclass(frozen=True)
class RatioPoint:
    """Estimate of a discriminator at its last checkpoint.

    Attributes:
        column: column of the estimator.
        exact: exact value.
        estimate: estimate, the mean over replicates.
        comparison: its difference to the exact value; held-out samples are not paired, so its
            error is an upper bound.
    """

    column: str
    exact: Estimate
    estimate: Estimate
    comparison: Comparison

    @property
    def share(self) -> float:
        """Estimate divided by the exact value."""
        return self.estimate.value / self.exact.value

    @property
    def is_trained(self) -> bool:
        """True if the discriminator was trained; False for controls."""
        return objective(str(self.comparison.model["objective"])).is_trained


def ratio_points(table: StudyTable) -> list[RatioPoint]:
    """Return a point for each estimator and discriminator; p-values are adjusted together.

    Rows of all weights and samplers of a discriminator have the same estimates, so one is read.
    """
    models, exact_column = table.models, exact_ratio()
    if exact_column not in models or models[exact_column].isna().all():
        return []
    last = models.sort_values("epoch", kind="stable").drop_duplicates("trial", keep="last")
    last = last.sort_index()
    exact = replicates_by_model(table, exact_column)
    points = []
    for column in ratio_estimates():
        values = replicates_by_model(table, column)
        for _, model in last[last[column].notna() & last[exact_column].notna()].iterrows():
            key = model_key(model)
            difference = tested(model, column, None, values[key].minus(exact[key]))
            of_column, of_exact = estimate(model, column), estimate(model, exact_column)
            assert of_column is not None  # selected above
            assert of_exact is not None
            points.append(RatioPoint(column, of_exact, of_column, difference))
    comparisons = adjusted([point.comparison for point in points])
    return [replace(p, comparison=c) for p, c in zip(points, comparisons, strict=True)]
