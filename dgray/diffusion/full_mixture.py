r"""Gaussian mixtures with full covariance matrices, whose noised densities are known exactly.

With C_k = U_k diag(v_k) U_k^T, noise only raises the eigenvalues:
p(x; sigma) = sum_k w_k N(x; mu_k, U_k diag(v_k + sigma^2) U_k^T). In the coordinates U_k^T x of a
component the formulas are those of ``dgray.diffusion.mixture``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.mixture import draw_components
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.errors import DataError


@dataclass(frozen=True)
class FullGaussianMixture(Denoiser):
    """Mixture of K Gaussians in d dimensions with full covariances, and its exact denoiser.

    Attributes:
        means: mu, shape (K, d).
        variances: v, eigenvalues of the covariances, shape (K, d), > 0.
        axes: U, their eigenvectors in columns, shape (K, d, d), orthogonal.
        weights: w, shape (K,), > 0, summing to 1.
    """

    means: Float[Tensor, "K d"]
    variances: Float[Tensor, "K d"]
    axes: Float[Tensor, "K d d"]
    weights: Float[Tensor, "K"]

    @staticmethod
    def of(
        means: Float[Tensor, "K d"],
        covariances: Float[Tensor, "K d d"],
        weights: Float[Tensor, "K"],
    ) -> FullGaussianMixture:
        """Return the mixture of these covariances.

        Raises:
            DataError: if shapes differ, a covariance is not positive definite, or weights are not
                positive and do not sum to 1.
        """
        count, dimension = means.shape
        if covariances.shape != (count, dimension, dimension) or weights.shape != (count,):
            raise DataError(
                f"means, covariances and weights must have shapes (K, d), (K, d, d) and (K,), but "
                f"got {tuple(means.shape)}, {tuple(covariances.shape)} and {tuple(weights.shape)}"
            )
        variances, axes = torch.linalg.eigh(covariances)
        if not (variances > 0).all() or not (weights > 0).all():
            raise DataError("eigenvalues of covariances, and weights, must be > 0")
        if abs(float(weights.sum()) - 1) > 1e-6:
            raise DataError(f"weights must sum to 1, but got {float(weights.sum())}")
        return FullGaussianMixture(means, variances, axes, weights)

    @property
    def dimension(self) -> int:
        """Number of dimensions d."""
        return self.means.shape[1]

    @property
    def covariances(self) -> Float[Tensor, "K d d"]:
        """Covariance matrices of the components at sigma = 0."""
        return (self.axes * self.variances[:, None, :]) @ self.axes.mT

    @property
    def std(self) -> float:
        """Root of the mean variance of a coordinate: sigma_data of preconditioning."""
        mean = self.weights @ self.means
        within = self.weights @ self.variances.sum(1)
        between = self.weights @ ((self.means - mean) ** 2).sum(1)
        return math.sqrt(float(within + between) / self.dimension)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> FullGaussianMixture:
        """Return the mixture on a device, in a dtype."""
        tensors = (self.means, self.variances, self.axes, self.weights)
        return FullGaussianMixture(*(t.to(device, dtype) for t in tensors))

    def log_prob(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return log p(x; sigma) in nats, sigma >= 0."""
        offset, variance = self._rotated(x, sigma)
        return torch.logsumexp(self._log_joint(offset, variance), dim=-1)

    def score(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return grad_x log p(x; sigma), sigma >= 0."""
        offset, variance = self._rotated(x, sigma)
        posterior = torch.softmax(self._log_joint(offset, variance), dim=-1)
        return self._original(posterior[..., None] * offset / variance)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        return x + sigma[..., None] ** 2 * self.score(x, sigma)

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        r"""Return E[x0 | x] and its exact divergence; ``probes`` are not used.

        div D = sum_k r_k sum_i v_ki / (v_ki + sigma^2) + sigma^2 (sum_k r_k |s_k|^2 - |s|^2) with
        the scores s_k of the components: no large terms cancel.
        """
        offset, variance = self._rotated(x, sigma)
        posterior = torch.softmax(self._log_joint(offset, variance), dim=-1)
        scores = offset / variance
        score = self._original(posterior[..., None] * scores)
        spread = (posterior * (scores**2).sum(-1)).sum(-1) - (score**2).sum(-1)
        own = (posterior * (self.variances / variance).sum(-1)).sum(-1)
        return x + sigma[..., None] ** 2 * score, own + sigma**2 * spread

    def laplacian(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return sum_i d2/dx_i^2 log p(x; sigma), sigma >= 0."""
        offset, variance = self._rotated(x, sigma)
        posterior = torch.softmax(self._log_joint(offset, variance), dim=-1)
        scores = offset / variance
        score = self._original(posterior[..., None] * scores)
        terms = (scores**2).sum(-1) - (1 / variance).sum(-1)
        return (posterior * terms).sum(-1) - (score**2).sum(-1)

    def sample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "num_samples d"]:
        """Draw independent samples at sigma = 0, on the CPU."""
        return self.sample_components(num_samples, generator)[0]

    def sample_components(
        self, num_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "num_samples d"], Int64[Tensor, "num_samples"]]:
        """Draw the same samples, and return the index of the component of each too."""
        component, noise = draw_components(self.weights, num_samples, self.means, generator)
        samples = self.means[component]
        for k in component.unique().tolist():
            rows = component == k
            samples[rows] += (noise[rows] * self.variances[k].sqrt()) @ self.axes[k].mT
        return samples, component

    def subset(self, components: Int64[Tensor, "k"]) -> FullGaussianMixture:
        """Return the mixture of some components, their weights normalised."""
        means, variances, axes, weights = (
            t[components] for t in (self.means, self.variances, self.axes, self.weights)
        )
        return FullGaussianMixture(means, variances, axes, weights / weights.sum())

    def distorted(
        self,
        means: Float[Tensor, "K d"],
        weights: Float[Tensor, "K"],
        *,
        std_scale: float,
        correlation_scale: float,
    ) -> FullGaussianMixture:
        """Return it with other means and weights, and scaled covariances.

        Args:
            means: means.
            weights: weights, summing to 1.
            std_scale: factor on standard deviations in all directions.
            correlation_scale: factor on covariances between coordinates, in [0, 1].
        """
        if correlation_scale == 1:
            return FullGaussianMixture(means, self.variances * std_scale**2, self.axes, weights)
        full = self.covariances
        own = torch.diag_embed(full.diagonal(dim1=-2, dim2=-1))
        mixed = own + correlation_scale * (full - own)
        return FullGaussianMixture.of(means, mixed * std_scale**2, weights)

    def _rotated(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return U_k^T (mu_k - x) and v_k + sigma^2, shape (..., K, d)."""
        offset = torch.einsum("kji,...kj->...ki", self.axes, self.means - x[..., None, :])
        return offset, self.variances + sigma[..., None, None] ** 2

    def _original(self, rotated: Tensor) -> Tensor:
        """Return the sum over k of U_k times vectors of the components, shape (..., d)."""
        return torch.einsum("kij,...kj->...i", self.axes, rotated)

    def _log_joint(self, offset: Tensor, variance: Tensor) -> Tensor:
        """Return ln w_k N(x; mu_k, C_k + sigma^2 I), shape (..., K)."""
        quadratic = (offset**2 / variance + variance.log()).sum(-1)
        return self.weights.log() - 0.5 * self.dimension * math.log(2 * math.pi) - 0.5 * quadratic
