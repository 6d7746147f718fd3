"""Nearest-neighbour estimates against closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dgray.metrics.estimate import GROUPS, Estimate
from dgray.metrics.neighbours import NeighbourReference, jackknife


def kl(data: torch.Tensor, samples: torch.Tensor, k: int = 5) -> Estimate:
    return jackknife(NeighbourReference.of(data, k).kl_values(samples))


def normal(count: int, dimension: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_kl_of_two_gaussians(dimension: int) -> None:
    data, samples = normal(4000, dimension, 0), 1.5 * normal(4000, dimension, 1)
    exact = dimension * (math.log(1.5) + 0.5 / 1.5**2 - 0.5)
    estimate = kl(data, samples)
    assert estimate.value == pytest.approx(exact, abs=4 * estimate.se + 0.03 * dimension)


def test_kl_of_equal_laws_is_near_zero() -> None:
    estimate = kl(normal(4000, 2, 0), normal(4000, 2, 1))
    assert abs(estimate.value) < 4 * estimate.se


def test_kl_is_wang_kulkarni_verdus_formula() -> None:
    data, samples = normal(40, 2, 0), normal(30, 2, 1)
    rho = torch.cdist(data, data).sort(dim=1).values[:, 3]
    nu = torch.cdist(data, samples).sort(dim=1).values[:, 2]
    expected = 2 * (nu / rho).log().mean() + math.log(30 / 39)
    assert kl(data, samples, k=3).value == pytest.approx(float(expected))


@pytest.mark.parametrize("are_grouped", [False, True])
def test_values_without_a_group_are_those_of_the_points_that_remain(are_grouped: bool) -> None:
    data, samples = normal(300, 2, 0), normal(200, 2, 1)
    if are_grouped:  # all neighbours of a point are in one group
        samples = normal(200, 2, 1) / 100 + 10 * normal(GROUPS, 2, 2).repeat(20, 1)
    values = NeighbourReference.of(data, 5).kl_values(samples)
    for group in range(GROUPS):
        kept, others = (
            torch.from_numpy(np.delete(points, np.s_[group::GROUPS], axis=0))
            for points in (data.numpy(), samples.numpy())
        )
        alone = NeighbourReference.of(kept, 5).kl_values(others)[0]
        assert values[1 + group] == alone


def test_standard_errors_are_the_spread_over_repetitions() -> None:
    """Jackknife errors of a level, and of a change that shares points and seeds with its base."""
    levels, changes = [], []
    for seed in range(40):
        reference = NeighbourReference.of(normal(300, 2, 3 * seed))
        start = normal(300, 2, 3 * seed + 1)
        base, other = (reference.kl_values(width * start) for width in (1.4, 1.3))
        levels.append(jackknife(base))
        changes.append(jackknife(other - base))
    for estimates in (levels, changes):
        values = torch.tensor([e.value for e in estimates])
        rms_se = torch.tensor([e.se for e in estimates]).square().mean().sqrt()
        # Neighbours are not smooth in the points, so the jackknife errs to the safe side.
        assert 0.8 < float(rms_se / values.std()) < 2
    mean_se = [torch.tensor([e.se for e in estimates]).mean() for estimates in (levels, changes)]
    assert mean_se[1] < 0.5 * mean_se[0]  # what pairing is for


def test_samples_that_diverged_are_infinitely_far() -> None:
    samples = normal(30, 2, 1)
    samples[3, 1] = math.nan
    assert kl(normal(40, 2, 0), samples).value == math.inf


def test_estimate_is_a_mean_and_its_standard_error() -> None:
    samples = torch.tensor([1.0, 2.0, 4.0, 5.0])
    assert Estimate.of(samples) == Estimate(3.0, pytest.approx(math.sqrt(10 / 3 / 4)))
    assert math.isnan(Estimate.of(samples[:1]).se)
