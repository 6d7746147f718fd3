"""Parts of standard errors: their squares sum to the squared error, their differences pair."""

from __future__ import annotations

import math

import pytest
import torch

from dgray.metrics.estimate import Estimate, between, group_estimate
from dgray.metrics.neighbours import jackknife

LEFT_OUT = [1.0, 1.2, 0.9, 1.1, 1.05, 0.95, 1.0, 1.3, 0.8, 1.0]


@pytest.mark.parametrize(
    "estimate",
    [
        group_estimate(1.0, LEFT_OUT),
        jackknife(torch.tensor([1.0, *LEFT_OUT], dtype=torch.float64)),
        between([Estimate(value, 0.1) for value in (1.0, 2.0, 4.0)]),
        group_estimate(1.0, LEFT_OUT).scaled(3.0),
        group_estimate(1.0, LEFT_OUT).with_error(0.5, (0.3, -0.4)),
    ],
    ids=["group_estimate", "jackknife", "between", "scaled", "with_error"],
)
def test_squares_of_parts_sum_to_the_squared_error(estimate: Estimate) -> None:
    assert math.hypot(*estimate.parts) == pytest.approx(estimate.se)


def test_error_of_a_difference_follows_from_parts() -> None:
    """The error of paired means, in groups of 10 of 50,000 points, is known to 1 / sqrt(18)."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(50_000, generator=generator, dtype=torch.float64)
    own = 0.1 * torch.randn(50_000, generator=generator, dtype=torch.float64)
    one, two = (Estimate.of(x).with_parts(x) for x in (shared, shared + own))
    assert math.hypot(*one.parts) == pytest.approx(one.se, rel=0.7)
    paired = math.dist(one.parts, two.parts)
    assert paired == pytest.approx(float(own.std()) / math.sqrt(50_000), rel=0.7)
    assert paired < 0.2 * math.hypot(one.se, two.se)


def test_parts_are_unknown_for_few_points_and_infinite_values() -> None:
    few, infinite = torch.arange(19.0), torch.full((40,), math.inf)
    assert Estimate.of(few).with_parts(few).parts == ()
    assert Estimate.of(infinite).with_parts(infinite).parts == ()
