"""The density a sampler really has, against the flow's and against kernel estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dgray.correction.guidance import guided_denoiser
from dgray.correction.weight import ConstantWeight
from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Oscillating, ZeroDiscriminator
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
    x = 12 * seeded_noise(0, range(50), (1,))
    result = heun_log_density(mixture, x, sigmas, prior_std=12.0)
    expected = stats.norm(0, 12 * factor).logpdf(result.samples[:, 0])
    np.testing.assert_allclose(result.log_density, expected, rtol=1e-10)
    assert not result.folded.any()


def test_a_folding_map_is_noticed() -> None:
    """Long steps under a strong oscillation send neighbours past each other."""
    mixture = GaussianMixture(
        torch.zeros(1, 1, dtype=DOUBLE),
        torch.ones(1, 1, dtype=DOUBLE),
        torch.ones(1, dtype=DOUBLE),
    )
    wild = guided_denoiser(
        mixture, Oscillating(ZeroDiscriminator(), 0.1, 3.0), ConstantWeight(1.0)
    )
    x = torch.sort(10 * seeded_noise(0, range(500), (1,)), dim=0).values
    coarse = heun_log_density(wild, x, karras_sigmas(32, 0.02, 10.0), prior_std=10.0)
    crossed = (coarse.samples.diff(dim=0) < 0).double().mean()
    assert float(crossed) > 0.1
    assert float(coarse.folded.double().mean()) > 0.1
    tame = guided_denoiser(
        mixture, Oscillating(ZeroDiscriminator(), 0.1, 1.0), ConstantWeight(0.2)
    )
    fine = heun_log_density(tame, x, karras_sigmas(32, 0.02, 10.0), prior_std=10.0)
    assert not (fine.samples.diff(dim=0) < 0).any()
    assert not fine.folded.any()


def test_samples_are_heuns() -> None:
    mixture, sigmas = NAMED["ring8"](), karras_sigmas(12, 0.01, 20.0)
    x = 20 * seeded_noise(0, range(30), (2,))
    result = heun_log_density(mixture, x, sigmas, prior_std=20.0)
    assert torch.equal(result.samples, heun(mixture, x, sigmas))


def test_discretisation_error_falls_with_the_square_of_the_step() -> None:
    """At every start: log q - log p against that of 512 steps, which holds the prior's part."""
    mixture = NAMED["ring8"]()
    x = 20 * seeded_noise(0, range(200), (2,))

    def log_ratio(steps: int) -> torch.Tensor:
        drawn = heun_log_density(mixture, x, karras_sigmas(steps, 0.01, 20.0), prior_std=20.0)
        assert not drawn.folded.any()
        return drawn.log_density - mixture.log_prob(drawn.samples, torch.zeros(200, dtype=DOUBLE))

    limit = log_ratio(512)
    coarse, middle, fine = (float((log_ratio(n) - limit).abs().mean()) for n in (16, 64, 256))
    assert coarse > 8 * middle
    assert middle > 8 * fine
    assert abs(float(limit.mean())) < 1e-3  # the reverse KL of the limit


def test_corrector_is_used() -> None:
    mixture, sigmas = NAMED["ring8"](), karras_sigmas(12, 0.01, 20.0)
    other = GaussianMixture(mixture.means, mixture.stds * 2, mixture.weights)
    x = 20 * seeded_noise(0, range(30), (2,))
    samples = heun_log_density(mixture, x, sigmas, prior_std=20.0, corrector=other).samples
    assert torch.equal(samples, heun(mixture, x, sigmas, corrector=other))
    assert not torch.allclose(samples, heun(mixture, x, sigmas))


def test_density_is_that_of_many_samples() -> None:
    mixture = NAMED["five_gaussians_1d"]()
    sigmas = karras_sigmas(8, 0.01, 20.0)
    generator = torch.Generator().manual_seed(0)
    x = 20 * torch.randn(300_000, 1, generator=generator, dtype=DOUBLE)
    many = np.sort(heun(mixture, x, sigmas)[:, 0].numpy())
    result = heun_log_density(mixture, x[:200], sigmas, prior_std=20.0)
    densities, width = result.log_density.exp().tolist(), 0.01
    for value, density in zip(result.samples[:, 0].tolist(), densities, strict=True):
        low, high = np.searchsorted(many, [value - width / 2, value + width / 2])
        share = (high - low) / len(many) / width
        assert share == pytest.approx(density, rel=0.25, abs=0.02)
