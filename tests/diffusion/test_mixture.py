"""Exact case 1: a mixture's density, score, denoiser and divergence, against independent ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from dgray.data.mixtures import NAMED
from dgray.diffusion.denoiser import AutogradDenoiser
from dgray.diffusion.mixture import GaussianMixture

DOUBLE = torch.float64


@pytest.fixture(params=sorted(NAMED))
def mixture(request: pytest.FixtureRequest) -> GaussianMixture:
    return NAMED[request.param]()


@pytest.fixture
def skewed() -> GaussianMixture:
    """Different widths in every dimension and component."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, generator=generator, dtype=DOUBLE) + 0.1
    return GaussianMixture(
        torch.randn(4, 3, generator=generator, dtype=DOUBLE),
        torch.rand(4, 3, generator=generator, dtype=DOUBLE) + 0.1,
        weights / weights.sum(),
    )


def points(mixture: GaussianMixture, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    clean = mixture.sample(64, generator)
    x = clean + sigma * torch.randn(clean.shape, generator=generator, dtype=DOUBLE)
    return x, torch.full((64,), sigma, dtype=DOUBLE)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 5.0])
def test_log_density_is_scipys(skewed: GaussianMixture, sigma: float) -> None:
    x, level = points(skewed, sigma)
    expected = np.logaddexp.reduce(
        [
            math.log(w) + stats.multivariate_normal(m, np.diag(s**2 + sigma**2)).logpdf(x)
            for w, m, s in zip(
                skewed.weights, skewed.means.numpy(), skewed.stds.numpy(), strict=True
            )
        ]
    )
    torch.testing.assert_close(skewed.log_prob(x, level), torch.from_numpy(expected))


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_score_is_the_gradient_of_the_log_density(mixture: GaussianMixture, sigma: float) -> None:
    x, level = points(mixture, sigma)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x)
    torch.testing.assert_close(mixture.score(x, level), gradient, rtol=1e-9, atol=1e-12)
    from_denoiser = (mixture(x, level) - x) / level[:, None] ** 2
    torch.testing.assert_close(from_denoiser, gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_divergence_is_that_of_automatic_differentiation(
    skewed: GaussianMixture, sigma: float
) -> None:
    x, level = points(skewed, sigma)
    expected = AutogradDenoiser(skewed).with_divergence(x, level)
    torch.testing.assert_close(skewed.with_divergence(x, level), expected)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_laplacian_follows_from_the_divergence(skewed: GaussianMixture, sigma: float) -> None:
    x, level = points(skewed, sigma)
    expected = (skewed.with_divergence(x, level)[1] - skewed.dimension) / sigma**2
    torch.testing.assert_close(skewed.laplacian(x, level), expected, rtol=1e-6, atol=1e-8)


def test_denoiser_is_the_posterior_mean_by_quadrature() -> None:
    mixture, sigma, x = NAMED["five_gaussians_1d"](), 0.7, 1.3

    clean = np.linspace(-6, 6, 2001)
    prior = sum(stats.norm(m, 0.15).pdf(clean) for m in (-4, -2, 0, 2, 4)) / 5
    weights = prior * stats.norm(clean, sigma).pdf(x)
    expected = integrate.simpson(weights * clean, clean) / integrate.simpson(weights, clean)
    denoised = mixture(torch.tensor([[x]], dtype=DOUBLE), torch.tensor([sigma], dtype=DOUBLE))
    assert denoised.item() == pytest.approx(expected, rel=1e-6)


def test_samples_have_the_moments_of_the_mixture(skewed: GaussianMixture) -> None:
    samples = skewed.sample(200_000, torch.Generator().manual_seed(0))
    mean = skewed.weights @ skewed.means
    second = skewed.weights @ (skewed.stds**2 + skewed.means**2)
    torch.testing.assert_close(samples.mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close((samples**2).mean(0), second, atol=0.03, rtol=0)
    assert skewed.std == pytest.approx(math.sqrt(float((second - mean**2).mean())))


def test_named_mixtures_are_what_their_names_say() -> None:
    shapes = {name: tuple(make().means.shape) for name, make in NAMED.items()}
    assert shapes == {
        "ring8": (8, 2),
        "grid25": (25, 2),
        "five_gaussians_1d": (5, 1),
        "axes16": (32, 16),
        **{f"correlated{d}": (1, d) for d in (20, 40, 80, 160, 320)},
    }
    assert NAMED["five_gaussians_1d"]().means.flatten().tolist() == [-4, -2, 0, 2, 4]


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stds": torch.zeros(2, 1, dtype=DOUBLE)}, "> 0"),
        ({"weights": torch.full((2,), 0.4, dtype=DOUBLE)}, "sum to 1"),
        ({"weights": torch.ones(1, dtype=DOUBLE)}, r"shape \(K,\)"),
        ({"stds": torch.ones(2, dtype=DOUBLE)}, r"shape \(K, d\)"),
    ],
)
def test_what_would_broadcast_silently_is_refused(
    change: dict[str, torch.Tensor], message: str
) -> None:
    fields = {
        "means": torch.zeros(2, 1, dtype=DOUBLE),
        "stds": torch.ones(2, 1, dtype=DOUBLE),
        "weights": torch.full((2,), 0.5, dtype=DOUBLE),
    }
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**{**fields, **change})
