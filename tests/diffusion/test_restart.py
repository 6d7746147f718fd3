"""The restart sampler against an independent implementation, and a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgray.catalogue import SAMPLERS
from dgray.data.mixtures import NAMED
from dgray.diffusion.restart import restart
from dgray.diffusion.restart_counts import num_calls, num_draws
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas

DOUBLE = torch.float64
OPTIONS = {"levels": ((0.1, 2.0), (0.05, 0.5)), "K": (2, 3), "N": (6, 4)}


def by_hand(x: Tensor, sigmas: Tensor, noise: Tensor) -> tuple[Tensor, int]:
    """Algorithm 1 of Xu et al. with both intervals, written out; also the denoiser calls."""
    denoise, calls = NAMED["ring8"](), 0

    def ode(x: Tensor, above: Tensor, below: Tensor) -> Tensor:
        nonlocal calls
        slope = (x - denoise(x, above.expand(len(x)))) / above
        calls += 1
        moved = x + (below - above) * slope
        if below == 0:
            return moved
        calls += 1
        return x + (below - above) * (
            slope / 2 + (moved - denoise(moved, below.expand(len(x)))) / below / 2
        )

    used = 0
    for i in range(len(sigmas) - 1):
        x = ode(x, sigmas[i], sigmas[i + 1])
        for (low, high), count, steps in zip(*OPTIONS.values(), strict=True):
            nearest = int((sigmas[:-1] - low).abs().argmin())
            if nearest != i + 1:
                continue
            inner = karras_sigmas(steps + 1, float(sigmas[nearest]), high)[:-1]
            for _ in range(count):
                x = x + (high**2 - sigmas[nearest] ** 2).sqrt() * noise[used]
                used += 1
                for j in range(steps):
                    x = ode(x, inner[j], inner[j + 1])
    return x, calls


def test_agrees_with_an_independent_implementation() -> None:
    generator = torch.Generator().manual_seed(0)
    sigmas = karras_sigmas(18, 0.002, 80.0)
    start = 80 * torch.randn(50, 2, generator=generator, dtype=DOUBLE)
    draws = num_draws(18, **OPTIONS)
    assert draws == 5
    noise = torch.randn(draws, 50, 2, generator=generator, dtype=DOUBLE)
    expected, calls = by_hand(start, sigmas, noise)
    samples = restart(NAMED["ring8"](), start, sigmas, noise, **OPTIONS)
    torch.testing.assert_close(samples, expected, rtol=1e-9, atol=1e-9)
    assert calls == num_calls(18, **OPTIONS) == 35 + 2 * (2 * 6 + 3 * 4)


@pytest.mark.parametrize("count", [1, 4])
def test_contracts_a_wrong_variance_as_in_closed_form(count: int) -> None:
    """On N(0, s^2) the ratio r of the variance to that of the law becomes, in each restart,
    (r (s^2 + low^2) + high^2 - low^2) / (s^2 + high^2): each forgets part of the error.

    The sampler is linear, so that coefficients of start and noise give its variance exactly.
    """
    s2, high, ratio = 0.25, 2.0, 3.0
    sigmas = karras_sigmas(300, 0.002, 80.0)
    low = float(sigmas[:-1][(sigmas[:-1] - 0.1).abs().argmin()])
    start = torch.zeros(1, 1 + count, dtype=DOUBLE)
    start[0, 0] = math.sqrt(ratio * (s2 + 80.0**2))
    noise = torch.eye(1 + count, dtype=DOUBLE)[1:, None, :]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return s2 / (s2 + sigma[..., None] ** 2) * x

    options = {"levels": ((low, high),), "K": (count,), "N": (300,)}
    coefficients = restart(denoise, start, sigmas, noise, **options)
    for _ in range(count):
        ratio = (ratio * (s2 + low**2) + high**2 - low**2) / (s2 + high**2)
    assert float((coefficients**2).sum()) == pytest.approx(ratio * s2, rel=2e-3)


def test_without_a_level_below_an_interval_it_is_heun() -> None:
    sigmas = karras_sigmas(4, 0.5, 80.0)
    start = torch.ones(3, 2, dtype=DOUBLE)
    options = {"levels": ((0.1, 0.3),), "K": (2,), "N": (2,)}
    samples = restart(NAMED["ring8"](), start, sigmas, torch.ones(2, 3, 2).double(), **options)
    assert torch.equal(samples, heun(NAMED["ring8"](), start, sigmas))


def test_draws_and_calls_of_other_samplers_follow_from_their_stages() -> None:
    assert SAMPLERS["restart"].num_draws(18, OPTIONS) == 5
    assert [SAMPLERS[n].num_draws(18, {}) for n in ("ode", "churn", "sde")] == [0, 18, 18]
    assert [SAMPLERS[n].num_calls(18, {}) for n in ("ode", "churn", "sde")] == [35, 35, 18]
