"""Mixtures with full covariances and classes, against scipy and automatic differentiation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dgray.data.mixtures import NAMED, build_mixture, distorted_mixture
from dgray.diffusion.class_mixture import ClassMixture
from dgray.diffusion.denoiser import AutogradDenoiser, with_labels
from dgray.diffusion.full_mixture import FullGaussianMixture
from dgray.diffusion.mixture import GaussianMixture
from dgray.errors import DataError

DOUBLE = torch.float64
SIGMAS = pytest.mark.parametrize("sigma", [0.002, 0.3, 80.0])


@pytest.fixture(scope="module")
def mixture() -> FullGaussianMixture:
    """Four components in three dimensions, their covariances of condition numbers up to 100."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(4, 3, 3, generator=generator, dtype=DOUBLE)
    weights = torch.rand(4, generator=generator, dtype=DOUBLE) + 0.1
    return FullGaussianMixture.of(
        torch.randn(4, 3, generator=generator, dtype=DOUBLE),
        factor @ factor.mT + 0.05 * torch.eye(3, dtype=DOUBLE),
        weights / weights.sum(),
    )


def points(law: FullGaussianMixture, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    clean = law.sample(64, generator)
    x = clean + sigma * torch.randn(clean.shape, generator=generator, dtype=DOUBLE)
    return x, torch.full((64,), sigma, dtype=DOUBLE)


def log_densities(law: FullGaussianMixture, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Log-density of each component by scipy, shape (K, N)."""
    noise = sigma**2 * np.eye(law.dimension)
    values = [
        stats.multivariate_normal(m, c + noise).logpdf(x)
        for m, c in zip(law.means.numpy(), law.covariances.numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(values))


@pytest.mark.parametrize("sigma", [0.0, 0.3, 5.0])
def test_log_density_is_scipys(mixture: FullGaussianMixture, sigma: float) -> None:
    x, level = points(mixture, sigma)
    own = log_densities(mixture, x, sigma) + mixture.weights.log()[:, None]
    torch.testing.assert_close(mixture.log_prob(x, level), torch.logsumexp(own, 0))


@SIGMAS
def test_score_divergence_and_laplacian_are_those_of_autograd(
    mixture: FullGaussianMixture, sigma: float
) -> None:
    x, level = points(mixture, sigma)
    expected = AutogradDenoiser(mixture).with_divergence(x, level)
    torch.testing.assert_close(mixture.with_divergence(x, level), expected, rtol=1e-7, atol=1e-9)
    laplacian = (expected[1] - mixture.dimension) / sigma**2
    torch.testing.assert_close(mixture.laplacian(x, level), laplacian, rtol=1e-5, atol=1e-7)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x)
    torch.testing.assert_close(mixture.score(x, level), gradient, rtol=1e-9, atol=1e-12)


def test_a_diagonal_covariance_gives_the_diagonal_mixture() -> None:
    diagonal = NAMED["ring8"]()
    assert isinstance(diagonal, GaussianMixture)
    covariances = torch.diag_embed(diagonal.stds**2)
    full = FullGaussianMixture.of(diagonal.means, covariances, diagonal.weights)
    x, level = points(full, 0.3)
    torch.testing.assert_close(full.log_prob(x, level), diagonal.log_prob(x, level))
    torch.testing.assert_close(full.with_divergence(x, level), diagonal.with_divergence(x, level))
    assert full.std == pytest.approx(diagonal.std)


def test_samples_have_the_moments_of_the_law(mixture: FullGaussianMixture) -> None:
    samples, component = mixture.sample_components(100_000, torch.Generator().manual_seed(0))
    assert torch.equal(samples, mixture.sample(100_000, torch.Generator().manual_seed(0)))
    for k in range(4):
        of_component = samples[component == k]
        torch.testing.assert_close(
            of_component.T.cov(), mixture.covariances[k], rtol=0.1, atol=0.1
        )
        torch.testing.assert_close(of_component.mean(0), mixture.means[k], rtol=0, atol=0.08)
    assert mixture.std == pytest.approx(float(samples.var(0).mean().sqrt()), rel=0.02)


def test_a_covariance_must_be_positive_definite() -> None:
    covariance = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]], dtype=DOUBLE)
    with pytest.raises(DataError, match="must be > 0"):
        FullGaussianMixture.of(torch.zeros(1, 2, dtype=DOUBLE), covariance, torch.ones(1).double())


@pytest.mark.parametrize("dimension", [20, 320])
def test_correlated_gaussians_have_the_divergence_of_the_literature(dimension: int) -> None:
    """KL to N(0, I) is d / 4: -ln(1 - rho^2) / 2 per pair, rho = sqrt(1 - exp(-4 KL / d))."""
    law = NAMED[f"correlated{dimension}"]()
    assert isinstance(law, FullGaussianMixture)
    divergence = -0.5 * float(torch.linalg.slogdet(law.covariances[0])[1])
    assert divergence == pytest.approx(dimension / 4)
    assert float(law.covariances[0, 0, 1]) == pytest.approx(0.795, abs=5e-4)
    base = distorted_mixture(law, correlation_scale=0.0)
    assert isinstance(base, FullGaussianMixture)
    identity = torch.eye(dimension, dtype=DOUBLE)
    torch.testing.assert_close(base.covariances[0], identity)


def test_distortions_of_full_covariances(mixture: FullGaussianMixture) -> None:
    base = distorted_mixture(
        mixture, std_scale=2.0, correlation_scale=0.5, mean_shift=1.0, mean_scale=3.0
    )
    assert isinstance(base, FullGaussianMixture)
    expected = 4 * mixture.covariances
    off = ~torch.eye(3, dtype=torch.bool).expand(4, 3, 3)
    expected[off] *= 0.5
    torch.testing.assert_close(base.covariances, expected)
    torch.testing.assert_close(base.means, 3 * mixture.means + 1)


COMPONENTS = [
    {"mean": [0, 0], "covariance": [[1, 0.8], [0.8, 1]], "std": None, "weight": 2.0, "label": 0},
    {"mean": [3, 0], "std": 0.5, "covariance": None, "weight": 1.0, "label": 1},
    {"mean": [3, 3], "std": [0.5, 0.2], "covariance": None, "weight": 1.0, "label": 1},
]


@pytest.fixture(scope="module")
def labelled() -> ClassMixture:
    law = build_mixture(components=COMPONENTS)
    assert isinstance(law, ClassMixture)
    return law


@SIGMAS
def test_law_of_a_class_is_the_mixture_of_its_components(
    labelled: ClassMixture, sigma: float
) -> None:
    assert isinstance(labelled.mixture, FullGaussianMixture)
    x, level = points(labelled.mixture, sigma)
    labels = torch.arange(64) % 3 - 1
    own = log_densities(labelled.mixture, x, sigma)
    weights = torch.tensor([[0.5, 0.25, 0.25], [1, 0, 0], [0, 0.5, 0.5]], dtype=DOUBLE)
    expected = torch.logsumexp(own.T + weights[labels + 1].log(), 1)
    bound = with_labels(labelled, labels)
    torch.testing.assert_close(bound.log_prob(x, level), expected)
    by_autograd = AutogradDenoiser(bound).with_divergence(x, level)
    torch.testing.assert_close(bound.with_divergence(x, level), by_autograd, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(
        bound.score(x, level), (by_autograd[0] - x) / sigma**2, rtol=1e-5, atol=1e-7
    )
    laplacian = (by_autograd[1] - 2) / sigma**2
    torch.testing.assert_close(bound.laplacian(x, level), laplacian, rtol=1e-5, atol=1e-7)


def test_labels_are_those_of_the_components_of_the_same_samples(labelled: ClassMixture) -> None:
    samples, labels = labelled.sample_labelled(2000, torch.Generator().manual_seed(0))
    assert torch.equal(samples, labelled.sample(2000, torch.Generator().manual_seed(0)))
    assert labelled.class_weights.tolist() == [0.5, 0.5]
    assert float((labels == 0).double().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(samples[labels == 1, 0].mean()) == pytest.approx(3, abs=0.1)
    with pytest.raises(ValueError, match="must be classes from 0 to 1"):
        with_labels(labelled, torch.tensor([2]))


def test_diagonal_components_of_a_list_are_a_diagonal_mixture() -> None:
    law = build_mixture(components=[c | {"label": None} for c in COMPONENTS[1:]])
    assert isinstance(law, GaussianMixture)
    assert law.stds.tolist() == [[0.5, 0.5], [0.5, 0.2]]
    assert math.isclose(float(law.weights.sum()), 1)


def test_a_conditional_base_keeps_the_classes_of_the_data(labelled: ClassMixture) -> None:
    base = distorted_mixture(labelled, std_scale=2.0, conditional=True)
    assert isinstance(base, ClassMixture)
    assert base.num_classes == 2
    assert isinstance(distorted_mixture(labelled, std_scale=2.0), FullGaussianMixture)
    with pytest.raises(ValueError, match="needs classes"):
        distorted_mixture(labelled.mixture, conditional=True)
