"""Test estimates of a KL divergence from logits against closed forms and a few lines of numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from dgray.metrics.ratio import denoising_estimate, donsker_varadhan, nwj, path_estimate


def logits_of(dimension: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return exact log-ratios of N(0.5, I) to N(0, I) at samples of either; KL = d / 8 nats."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn((count, dimension), generator=generator, dtype=torch.float64)
    real = torch.randn((count, dimension), generator=generator, dtype=torch.float64) + 0.5
    return tuple(0.5 * x.sum(1) - dimension / 8 for x in (real, base))  # type: ignore[return-value]


@pytest.mark.parametrize("dimension", [2, 20])
def test_the_exact_ratio_gives_the_exact_divergence(dimension: int) -> None:
    real, base = logits_of(dimension, 200_000)
    for estimate in (donsker_varadhan(real, base), nwj(real, base)):
        assert abs(estimate.value - dimension / 8) < 4 * estimate.se
        assert 0 < estimate.se < 0.1


def test_bounds_are_those_of_a_few_lines() -> None:
    real, base = logits_of(3, 500)
    mean, values = float(real.mean()), base.numpy()
    assert donsker_varadhan(real, base).value == pytest.approx(
        mean - logsumexp(values) + math.log(500)
    )
    assert nwj(real, base).value == pytest.approx(mean - np.exp(values).mean() + 1)


def test_a_constant_changes_the_nwj_bound_only() -> None:
    real, base = logits_of(2, 1000)
    shifted = real + 3, base + 3
    assert donsker_varadhan(*shifted).value == pytest.approx(donsker_varadhan(real, base).value)
    assert nwj(*shifted).value < nwj(real, base).value - 10


@pytest.mark.parametrize("bound", [donsker_varadhan, nwj])
def test_a_wrong_logit_gives_less_than_the_divergence(bound: object) -> None:
    real, base = logits_of(2, 100_000)
    assert callable(bound)
    for factor in (0.5, 1.5):
        estimate = bound(factor * real, factor * base)
        assert estimate.value < 2 / 8 - 4 * estimate.se


@pytest.mark.parametrize("bound", [donsker_varadhan, nwj])
def test_standard_errors_are_the_spread_of_estimates(bound: object) -> None:
    real, base = logits_of(2, 100_000)
    assert callable(bound)
    estimates = [bound(r, b) for r, b in zip(real.split(500), base.split(500), strict=True)]
    spread = np.std([estimate.value for estimate in estimates], ddof=1)
    errors = np.sqrt(np.mean([estimate.se**2 for estimate in estimates]))
    assert errors == pytest.approx(spread, rel=0.2)


def test_nwj_is_missing_where_it_overflows() -> None:
    estimate = nwj(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1e4]))
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.se)


def test_path_estimates_are_integrals_over_log_sigma() -> None:
    cost = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    assert path_estimate(cost, 5.0).value == pytest.approx(10.0)
    assert denoising_estimate(cost, -cost, 5.0).value == pytest.approx(10.0)
    assert denoising_estimate(cost, 0 * cost, 5.0).value == pytest.approx(-10.0)
