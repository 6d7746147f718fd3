"""Statements on how well discriminators estimate the KL divergence of the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dgray.data.summary import counted
from dgray.reporting.estimate import minus
from dgray.reporting.ratios import RatioPoint, ratio_points
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Statement

RATIOS = "estimates of the KL divergence"


def ratio_statements(table: StudyTable) -> Iterator[Statement]:
    """Yield a statement for each estimator: how often it is too low or too high."""
    points = ratio_points(table)
    for column in dict.fromkeys(point.column for point in points):
        own = [point for point in points if point.column == column]
        trained = [point for point in own if point.is_trained]
        controls = [point for point in own if not point.is_trained]
        parts = []
        if trained:
            low, high = (sum(p.comparison.sign == sign for p in trained) for sign in (-1, 1))
            parts.append(
                f"The {table.title(column)} is significantly below the exact value in {low} of "
                f"{counted(len(trained), 'trained discriminator')} and above it in {high}, at the "
                f"last checkpoint of each (exact: {_exact(trained)}; adjusted for all "
                f"{len(points)} comparisons with it). The estimates are {_shares(trained)} of it."
            )
        if controls:
            subject = "That of controls is" if trained else f"The {table.title(column)} is"
            parts.append(f"{subject} {_shares(controls)} of the exact value.")
        is_off = any(point.comparison.sign for point in own)
        yield Statement(RATIOS, " ".join(parts), "caution" if is_off else "neutral")


def _exact(points: Sequence[RatioPoint]) -> str:
    values = [f"{value:.3g}" for value in sorted(point.exact.value for point in points)]
    return f"{values[0]} nats" if values[0] == values[-1] else f"{values[0]} to {values[-1]} nats"


def _shares(points: Sequence[RatioPoint]) -> str:
    """Return the range and the median of estimates as shares of the exact value."""
    shares = np.array([point.share for point in points])
    low, middle, high = (
        minus(f"{100 * value:z.{1 if abs(value) < 1 else 0}f} %")
        for value in (shares.min(), np.median(shares), shares.max())
    )
    return low if low == high else f"{low} to {high} (median {middle})"
