"""Samplers: their order on an exact flow, their law, and what they must not depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import edm_stochastic, heun, reverse_sde
from dgray.diffusion.sigmas import karras_sigmas, log_normal, log_uniform, stratified

DOUBLE = torch.float64
CHURN = {"S_churn": 10.0, "S_min": 0.05, "S_max": 50.0, "S_noise": 1.0}


def gaussian(mean: float, std: float) -> GaussianMixture:
    means = torch.full((1, 1), mean, dtype=DOUBLE)
    return GaussianMixture(means, torch.full_like(means, std), torch.ones(1, dtype=DOUBLE))


def test_heun_converges_with_order_two() -> None:
    """On a Gaussian the flow is x(sigma) = x(T) sqrt((s^2 + sigma^2) / (s^2 + T^2)), exactly."""
    std, start, end = 0.5, 10.0, 0.1
    x = torch.linspace(-20, 20, 11, dtype=DOUBLE)[:, None]
    exact = x * ((std**2 + end**2) / (std**2 + start**2)) ** 0.5
    steps = np.array([64, 128, 256, 512])
    errors = []
    for n in steps:
        sigmas = karras_sigmas(int(n) + 1, end, start)[:-1]
        errors.append(float((heun(gaussian(0.0, std), x, sigmas) - exact).abs().mean()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("kind", ["heun", "churn", "sde"])
def test_samples_follow_the_law_of_the_denoiser(kind: str) -> None:
    mixture = NAMED["five_gaussians_1d"]()
    sigmas = karras_sigmas(100, 0.002, 80.0)
    noise = seeded_noise(0, range(4000), (101, 1)).transpose(0, 1)
    x = 80.0 * noise[0]
    if kind == "heun":
        samples = heun(mixture, x, sigmas)
    elif kind == "churn":
        samples = edm_stochastic(mixture, x, sigmas, noise[1:], **CHURN)
    else:
        samples = reverse_sde(mixture, x, sigmas, noise[1:])

    def cdf(values: np.ndarray) -> np.ndarray:
        return np.mean([stats.norm(m, 0.15).cdf(values) for m in (-4, -2, 0, 2, 4)], axis=0)

    assert stats.kstest(samples[:, 0].numpy(), cdf).pvalue > 1e-3


def test_no_churn_is_heun() -> None:
    mixture = NAMED["ring8"]()
    sigmas = karras_sigmas(10, 0.01, 20.0)
    noise = seeded_noise(0, range(5), (11, 2)).transpose(0, 1)
    plain = heun(mixture, noise[0], sigmas)
    churned = edm_stochastic(
        mixture, noise[0], sigmas, noise[1:], S_churn=0.0, S_min=0.0, S_max=99.0, S_noise=1.0
    )
    assert torch.equal(plain, churned)


def test_heun_calls_its_corrector_on_the_second_stage_only() -> None:
    calls: list[str] = []
    mixture = NAMED["ring8"]()

    def named(name: str) -> Callable[[Tensor, Tensor], Tensor]:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            calls.append(name)
            return mixture(x, sigma)

        return denoise

    x = torch.zeros(1, 2, dtype=DOUBLE)
    heun(named("guided"), x, karras_sigmas(3, 0.1, 10.0), corrector=named("base"))
    assert calls == ["guided", "base", "guided", "base", "guided"]


def test_a_seed_is_the_same_noise_in_any_company() -> None:
    assert torch.equal(seeded_noise(3, range(10), (4, 2))[7:], seeded_noise(3, [7, 8, 9], (4, 2)))
    assert not torch.equal(seeded_noise(3, [7], (4, 2)), seeded_noise(4, [7], (4, 2)))
    steps = seeded_noise(3, [7], (4, 2), "steps")
    assert not torch.equal(seeded_noise(3, [7], (4, 2), "start"), steps)


def test_changing_returned_noise_does_not_change_the_next() -> None:
    first = seeded_noise(0, [1, 2], (3,))
    expected = first.clone()
    first.zero_()
    assert torch.equal(seeded_noise(0, [1, 2], (3,)), expected)


def test_karras_steps_are_edms() -> None:
    """Equation 5 of Karras et al. 2022 at its end points and middle."""
    sigmas = karras_sigmas(3, 0.002, 80.0)
    middle = (0.5 * 80.0 ** (1 / 7) + 0.5 * 0.002 ** (1 / 7)) ** 7
    torch.testing.assert_close(
        sigmas, torch.tensor([80.0, middle, 0.002, 0.0], dtype=DOUBLE), rtol=1e-12, atol=0
    )


def test_noise_laws() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, generator=generator, dtype=DOUBLE)
    normal = torch.randn(20_000, generator=generator, dtype=DOUBLE)
    low, high = np.log(0.01), np.log(50.0)
    logs = log_uniform(uniform, 0.01, 50.0).log().numpy()
    assert stats.kstest(logs, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert stats.kstest(log_normal(normal).log().numpy(), stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


def test_every_row_of_strata_covers_every_bin() -> None:
    uniform = torch.rand(100, 8, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    logs = stratified(uniform, 0.1, 10.0).log()
    edges = torch.linspace(np.log(0.1), np.log(10.0), 9, dtype=DOUBLE)
    assert (logs >= edges[:-1]).all()
    assert (logs <= edges[1:]).all()
