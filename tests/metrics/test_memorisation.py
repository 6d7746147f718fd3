"""Memorisation of points and of images."""

from __future__ import annotations

import pytest
import torch

from dgray.metrics.estimate import Estimate
from dgray.metrics.memorisation import memorisation, memorisation_scores


def normal(count: int, dimension: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def of_images(samples: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor) -> Estimate:
    return Estimate.of(memorisation_scores(samples, training, held_out))


def test_points_score_a_half_for_copies_and_zero_for_fresh_samples() -> None:
    training, held_out = normal(300, 2, 0), normal(500, 2, 1)
    assert memorisation(training, training, held_out).value == 0.5
    fresh = memorisation(normal(2000, 2, 2), training, held_out)
    assert abs(fresh.value) < 0.1
    swapped = memorisation(held_out[:300], training, held_out)
    assert swapped.value == -0.5


def test_points_need_as_many_held_out_as_training_points() -> None:
    with pytest.raises(ValueError, match="num_held_out"):
        memorisation(normal(5, 2, 0), normal(10, 2, 0), normal(9, 2, 1))


def test_sets_of_unequal_size_score_a_half_for_copies_and_zero_for_fresh_samples() -> None:
    training, held_out = normal(600, 8, 0), normal(200, 8, 1)
    assert of_images(training, training, held_out).value == pytest.approx(0.5)
    assert of_images(held_out, training, held_out).value == pytest.approx(-1.5)
    fresh = of_images(normal(4000, 8, 2), training, held_out)
    # Errors are for given sets, whose own sampling error moves the share by more.
    assert abs(fresh.value) < 0.1
    mixed = torch.cat([training[:100], normal(100, 8, 3)])
    assert of_images(mixed, training, held_out).value == pytest.approx(0.25, abs=0.12)


def test_ties_of_bytes_are_no_evidence() -> None:
    both = torch.randint(256, (30, 3072), generator=torch.Generator().manual_seed(0))
    estimate = of_images(both, both, both)
    assert (estimate.value, estimate.se) == (0, 0)
