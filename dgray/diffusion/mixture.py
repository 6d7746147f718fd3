r"""Gaussian mixtures, whose noised densities are known exactly.

p(x; sigma) = sum_k w_k N(x; mu_k, diag(s_k^2) + sigma^2 I): noise only widens the components, so
the density, the score, the denoiser and its divergence have closed forms at every sigma >= 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.errors import DataError


class ExactLaw(Protocol):
    """Law of points that is known at every noise level; also its exact denoiser.

    x has shape (..., d), sigma shape (...), >= 0; p(x; sigma) is the density of x0 + sigma n.
    """

    @property
    def dimension(self) -> int:
        """The number d of coordinates."""
        ...

    @property
    def std(self) -> float:
        """Root mean variance per coordinate."""
        ...

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the law with its tensors on a device, in a floating-point type."""
        ...

    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Return independent samples at sigma = 0, shape (num_samples, d)."""
        ...

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log p(x; sigma) in nats, shape (...)."""
        ...

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return grad_x log p(x; sigma), shape (..., d)."""
        ...

    def laplacian(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the sum of second derivatives of log p(x; sigma), shape (...)."""
        ...

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return E[x0 | x], shape (..., d)."""
        ...

    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return E[x0 | x] and its divergence, shapes (..., d) and (...)."""
        ...


@dataclass(frozen=True)
class GaussianMixture(Denoiser):
    """Mixture of K Gaussians in d dimensions with diagonal covariances, and its exact denoiser.

    Attributes:
        means: mu, shape (K, d).
        stds: s, shape (K, d), > 0.
        weights: w, shape (K,), > 0, summing to 1.
    """

    means: Float[Tensor, "K d"]
    stds: Float[Tensor, "K d"]
    weights: Float[Tensor, "K"]

    def __post_init__(self) -> None:
        """Check shapes and signs, since a wrong shape would broadcast silently."""
        if self.means.ndim != 2 or self.stds.shape != self.means.shape:
            raise DataError(
                "means and stds must both have shape (K, d), but got "
                f"{tuple(self.means.shape)} and {tuple(self.stds.shape)}"
            )
        if self.weights.shape != self.means.shape[:1]:
            raise DataError(f"weights must have shape (K,), but got {tuple(self.weights.shape)}")
        if not (self.stds > 0).all() or not (self.weights > 0).all():
            raise DataError("stds and weights must be > 0")
        if abs(float(self.weights.sum()) - 1) > 1e-6:
            raise DataError(f"weights must sum to 1, but got {float(self.weights.sum())}")

    @property
    def dimension(self) -> int:
        """Number of dimensions d."""
        return self.means.shape[1]

    @property
    def std(self) -> float:
        """Root of the mean variance of a coordinate: sigma_data of preconditioning."""
        mean = self.weights @ self.means
        second = self.weights @ (self.stds**2 + self.means**2)
        return math.sqrt(float((second - mean**2).mean()))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> GaussianMixture:
        """Return the mixture on a device, in a dtype."""
        return GaussianMixture(*(t.to(device, dtype) for t in self._tensors()))

    def log_prob(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return log p(x; sigma) in nats, sigma >= 0."""
        return torch.logsumexp(self._log_joint(x, sigma)[0], dim=-1)

    def score(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return grad_x log p(x; sigma), sigma >= 0."""
        log_joint, variance = self._log_joint(x, sigma)
        posterior = torch.softmax(log_joint, dim=-1)
        return torch.einsum("...k,...kd->...d", posterior, self._offset(x) / variance)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        log_joint, variance = self._log_joint(x, sigma)
        posterior = torch.softmax(log_joint, dim=-1)
        return torch.einsum(
            "...k,...kd->...d", posterior, self._component_means(x, sigma, variance)
        )

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        r"""Return E[x0 | x] and its exact divergence; ``probes`` are not used.

        With responsibilities r_k and component means m_k, div D = sum_k r_k sum_i s_ki^2 / v_ki
        + sum_k r_k (m_k - D) . (mu_k - x) / v_k, since grad r_k = r_k (score_k - score).
        """
        log_joint, variance = self._log_joint(x, sigma)
        posterior = torch.softmax(log_joint, dim=-1)
        means = self._component_means(x, sigma, variance)
        denoised = torch.einsum("...k,...kd->...d", posterior, means)
        spread = (means - denoised[..., None, :]) * self._offset(x)
        terms = ((self.stds**2 + spread) / variance).sum(-1)  # (..., K)
        return denoised, (posterior * terms).sum(-1)

    def laplacian(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return sum_i d2/dx_i^2 log p(x; sigma), sigma >= 0."""
        log_joint, variance = self._log_joint(x, sigma)
        posterior = torch.softmax(log_joint, dim=-1)
        scores = self._offset(x) / variance  # (..., K, d)
        mean = torch.einsum("...k,...kd->...d", posterior, scores)
        terms = (scores**2).sum(-1) - (1 / variance).sum(-1)
        return (posterior * terms).sum(-1) - (mean**2).sum(-1)

    def sample(
        self, num_samples: int, generator: torch.Generator
    ) -> Float[Tensor, "num_samples d"]:
        """Draw independent samples at sigma = 0, on the CPU."""
        return self.sample_components(num_samples, generator)[0]

    def sample_components(
        self, num_samples: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "num_samples d"], Int64[Tensor, "num_samples"]]:
        """Draw the same samples, and return the index of the component of each too."""
        component = torch.multinomial(
            self.weights.double().cpu(), num_samples, replacement=True, generator=generator
        )
        noise = torch.randn(
            num_samples, self.dimension, generator=generator, dtype=torch.float64
        ).to(self.means)
        component = component.to(self.means.device)
        return self.means[component] + self.stds[component] * noise, component

    def subset(self, components: Int64[Tensor, "k"]) -> GaussianMixture:
        """Return the mixture of some components, their weights normalised."""
        weights = self.weights[components]
        return GaussianMixture(
            self.means[components], self.stds[components], weights / weights.sum()
        )

    def distorted(
        self,
        means: Float[Tensor, "K d"],
        weights: Float[Tensor, "K"],
        *,
        std_scale: float,
        correlation_scale: float,
    ) -> GaussianMixture:
        """Return it with other means and weights, and wider; there are no correlations."""
        del correlation_scale
        return GaussianMixture(means, self.stds * std_scale, weights)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.means, self.stds, self.weights

    def _offset(self, x: Tensor) -> Tensor:
        return self.means - x[..., None, :]  # (..., K, d)

    def _component_means(self, x: Tensor, sigma: Tensor, variance: Tensor) -> Tensor:
        """Return E[x0 | x, component], in a form in which no large terms cancel at small sigma."""
        return x[..., None, :] + sigma[..., None, None] ** 2 / variance * self._offset(x)

    def _log_joint(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln w_k N(x; mu_k, v_k), shape (..., K), and v_k, shape (..., K, d)."""
        variance = self.stds**2 + sigma[..., None, None] ** 2
        quadratic = (self._offset(x) ** 2 / variance + variance.log()).sum(-1)
        constant = self.weights.log() - 0.5 * self.dimension * math.log(2 * math.pi)
        return constant - 0.5 * quadratic, variance
