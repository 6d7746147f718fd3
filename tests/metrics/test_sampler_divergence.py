"""The density a sampler really has, against the flow's and against kernel estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.metrics.sampler_divergence import heun_log_density

DOUBLE = torch.float64


def test_one_gaussian_step_by_step_is_a_known_gaussian() -> None:
    """On a Gaussian every Heun step is linear, so the sampler's law is a Gaussian exactly."""
    mixture = GaussianMixture(
        torch.zeros(1, 1, dtype=DOUBLE),
        torch.full((1, 1), 0.5, dtype=DOUBLE),
        torch.ones(1, dtype=DOUBLE),
    )
    sigmas = karras_sigmas(6, 0.05, 10.0)
    factor = float(heun(mixture, torch.ones(1, 1, dtype=DOUBLE), sigmas))
    x, log_density = heun_log_density(mixture, 10 * seeded_noise(0, range(50), (1,)), sigmas)
    expected = stats.norm(0, 10 * factor).logpdf(x[:, 0])
    np.testing.assert_allclose(log_density, expected, rtol=1e-10)


def test_samples_are_heuns() -> None:
    mixture, sigmas = NAMED["ring8"](), karras_sigmas(12, 0.01, 20.0)
    x = 20 * seeded_noise(0, range(30), (2,))
    assert torch.equal(heun_log_density(mixture, x, sigmas)[0], heun(mixture, x, sigmas))


def test_reverse_kl_vanishes_with_the_step() -> None:
    mixture = NAMED["ring8"]()
    x = 20 * seeded_noise(0, range(300), (2,))
    found = []
    for steps in (16, 64, 256):
        samples, density = heun_log_density(mixture, x, karras_sigmas(steps, 0.01, 20.0))
        target = mixture.log_prob(samples, torch.zeros(300, dtype=DOUBLE))
        found.append(float((density - target).mean()))
    assert found[0] > found[1] > found[2]
    assert abs(found[2]) < 0.02


def test_corrector_is_used() -> None:
    mixture, sigmas = NAMED["ring8"](), karras_sigmas(12, 0.01, 20.0)
    other = GaussianMixture(mixture.means, mixture.stds * 2, mixture.weights)
    x = 20 * seeded_noise(0, range(30), (2,))
    found, _ = heun_log_density(mixture, x, sigmas, corrector=other)
    assert torch.equal(found, heun(mixture, x, sigmas, corrector=other))
    assert not torch.allclose(found, heun(mixture, x, sigmas))


@pytest.mark.slow
def test_density_is_that_of_a_million_samples() -> None:
    mixture = NAMED["five_gaussians_1d"]()
    sigmas = karras_sigmas(8, 0.01, 20.0)
    generator = torch.Generator().manual_seed(0)
    x = 20 * torch.randn(1_000_000, 1, generator=generator, dtype=DOUBLE)
    many = heun(mixture, x, sigmas)[:, 0].numpy()
    found, log_density = heun_log_density(mixture, x[:200], sigmas)
    width = 0.01
    for value, density in zip(found[:, 0].tolist(), log_density.exp().tolist(), strict=True):
        share = np.mean(np.abs(many - value) < width / 2) / width
        assert share == pytest.approx(density, rel=0.25, abs=0.02)
