r"""Gaussian mixtures, whose noised densities are known exactly.

p(x; sigma) = sum_k w_k N(x; mu_k, diag(s_k^2) + sigma^2 I): noise only widens the components, so
the density, the score, the denoiser and its divergence have closed forms at every sigma >= 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.errors import DataError

BLOCK_VALUES = 2**15  # numbers of an array of a block of rows: a quarter of a megabyte
BLOCK_MULTIPLE = 64  # rows; the last rows of other numbers of rows are rounded differently


class ExactLaw(Protocol):
    """Distribution of points that is known at every noise level; also its exact denoiser.

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
        """Return the distribution with its tensors on a device, in a floating-point type."""
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
        return self._in_blocks(_log_prob, x, sigma)[0]

    def score(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return grad_x log p(x; sigma), sigma >= 0."""
        return self._in_blocks(_score, x, sigma)[0]

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self._in_blocks(_denoised, x, sigma)[0]

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        r"""Return E[x0 | x] and its exact divergence; ``probes`` are not used.

        With responsibilities r_k, scores g_k of the components and g = sum_k r_k g_k,
        div D = sum_k r_k (sum_i s_ki^2 / v_ki + sigma^2 |g_k - g|^2), since
        grad r_k = r_k (g_k - g).
        """
        denoised, divergence = self._in_blocks(_denoised_and_divergence, x, sigma)
        return denoised, divergence

    def laplacian(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return sum_i d2/dx_i^2 log p(x; sigma), sigma >= 0."""
        return self._in_blocks(_laplacian, x, sigma)[0]

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

    def _in_blocks(
        self, compute: _Formula, x: Vectors, sigma: Scalars
    ) -> tuple[Float[Tensor, "*batch"] | Float[Tensor, "*batch d"], ...]:
        """Evaluate a formula, on a CPU a few rows at a time: their arrays stay in the cache."""
        columns, levels = x.reshape(-1, self.dimension).T, sigma.reshape(-1)
        rows = BLOCK_VALUES // self.means.numel() // BLOCK_MULTIPLE * BLOCK_MULTIPLE
        rows = max(1, len(levels)) if x.is_cuda else max(rows, BLOCK_MULTIPLE)
        blocks = zip(columns.split(rows, 1), levels.split(rows), strict=True)
        parts = [compute(self._posterior(*block), *block) for block in blocks]
        joined = [
            torch.cat(part, dim=-1) if len(part) > 1 else part[0]
            for part in zip(*parts, strict=True)
        ]
        return tuple(
            value.T.reshape(x.shape) if value.ndim == 2 else value.reshape(sigma.shape)
            for value in joined
        )

    def _posterior(self, x: Float[Tensor, "d n"], sigma: Float[Tensor, "n"]) -> _Posterior:
        stds = self._distinct_stds
        variance = stds[..., None] ** 2 + sigma**2  # (K, d, n), or 1 in place of K or d
        precision = variance.reciprocal()
        offset = self.means[..., None] - x.contiguous()
        scores = offset * precision
        log_det = variance.log().sum(1) * (self.dimension / stds.shape[1])
        constant = self.weights.log() - 0.5 * self.dimension * math.log(2 * math.pi)
        log_joint = constant[:, None] - 0.5 * ((offset * scores).sum(1) + log_det)
        return _Posterior(log_joint, scores, stds[..., None], precision)

    @cached_property
    def _distinct_stds(self) -> Float[Tensor, "_ _"]:
        """Standard deviations, with one row or column in place of equal ones."""
        stds = self.stds
        for axis in (0, 1):
            first = stds.narrow(axis, 0, 1)
            stds = first if bool((stds == first).all()) else stds
        return stds


def draw_components(
    weights: Float[Tensor, "K"],
    num_samples: int,
    means: Float[Tensor, "K d"],
    generator: torch.Generator,
) -> tuple[Int64[Tensor, "num_samples"], Float[Tensor, "num_samples d"]]:
    """Draw the component of each sample, and standard normal noise like ``means``."""
    component = torch.multinomial(
        weights.double().cpu(), num_samples, replacement=True, generator=generator
    )
    noise = torch.randn(num_samples, means.shape[1], generator=generator, dtype=torch.float64)
    return component.to(means.device), noise.to(means)


@dataclass(frozen=True)
class _Posterior:
    """Components at n noised points; components come first, since sums over them are then fast.

    Attributes:
        log_joint: ln w_k N(x; mu_k, v_k), shape (K, n).
        scores: gradient of each component's log-density, (mu_k - x) / v_k, shape (K, d, n).
        stds: s_k, shape (K, d, 1), or 1 in place of K or d.
        precision: 1 / v_k, shape (K, d, n), or 1 in place of K or d.
    """

    log_joint: Tensor
    scores: Tensor
    stds: Tensor
    precision: Tensor

    @cached_property
    def shares(self) -> Tensor:
        """Posterior probabilities r_k of the components, shape (K, 1, n)."""
        return torch.softmax(self.log_joint, dim=0)[:, None]

    @cached_property
    def score(self) -> Tensor:
        """Gradient of the log-density, shape (d, n)."""
        return (self.shares * self.scores).sum(0)

    @cached_property
    def spread(self) -> Tensor:
        """Posterior variance of the components' scores, shape (n,)."""
        return (self.shares * (self.scores - self.score) ** 2).sum((0, 1))

    def mean(self, values: Tensor) -> Tensor:
        """Return the posterior mean of the sum over d of values (K, d, n), shape (n,)."""
        per_component = values.sum(1) * (self.scores.shape[1] / values.shape[1])
        return (self.shares[:, 0] * per_component).sum(0)


_Formula = Callable[[_Posterior, Tensor, Tensor], tuple[Tensor, ...]]
"""(posterior, x (d, n), sigma (n,)) -> values of shape (d, n) or (n,)."""


def _log_prob(posterior: _Posterior, x: Tensor, sigma: Tensor) -> tuple[Tensor]:
    return (torch.logsumexp(posterior.log_joint, dim=0),)


def _score(posterior: _Posterior, x: Tensor, sigma: Tensor) -> tuple[Tensor]:
    return (posterior.score,)


def _denoised(posterior: _Posterior, x: Tensor, sigma: Tensor) -> tuple[Tensor]:
    return (x + sigma**2 * posterior.score,)


def _denoised_and_divergence(
    posterior: _Posterior, x: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    own = posterior.mean(posterior.stds**2 * posterior.precision)
    return x + sigma**2 * posterior.score, own + sigma**2 * posterior.spread


def _laplacian(posterior: _Posterior, x: Tensor, sigma: Tensor) -> tuple[Tensor]:
    return (posterior.spread - posterior.mean(posterior.precision),)
