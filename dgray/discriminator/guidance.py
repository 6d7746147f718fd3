r"""Guided denoiser built from a denoiser and a discriminator (Kim et al. 2023, arXiv 2211.17091).

D_w(x; sigma) = D(x; sigma) + w(sigma) sigma^2 grad_x d(x; sigma): the score of D_w is the base's
plus w times the gradient of the logit. w = 0 is the base, w = 1 the exact correction by a perfect
discriminator. (Kim et al.'s published setting is w = 2 on Heun's first stage and 0 on its second,
on average 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import Denoiser, NoiseLevels, levels_of, with_labels
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.discriminator.discriminator import Discriminator


class Weight(Protocol):
    """Guidance weight as a function of the noise level."""

    @property
    def breaks(self) -> tuple[float, ...]:
        """Noise levels at which the weight or its derivative is discontinuous."""
        return ()

    def __call__(self, sigma: Scalars) -> Scalars:
        """Return the weight at noise levels of shape (...), > 0; same shape."""
        ...


@dataclass(frozen=True)
class ConstantWeight(Weight):
    """The same weight at every noise level."""

    value: float

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        return torch.full_like(sigma, self.value)


@dataclass(frozen=True)
class IntervalWeight(Weight):
    """Another weight inside [low, high], 0 outside (Kynkaanniemi et al. 2024, 2404.07724)."""

    inner: Weight
    low: float
    high: float

    @property
    @override
    def breaks(self) -> tuple[float, ...]:
        return (*self.inner.breaks, self.low, self.high)

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        inside = (sigma >= self.low) & (sigma <= self.high)
        return torch.where(inside, self.inner(sigma), torch.zeros_like(sigma))


@dataclass(frozen=True)
class ScaledWeight(Weight):
    """Another weight times a factor; to first order, predictor-only guidance acts at w / 2."""

    inner: Weight
    factor: float

    @property
    @override
    def breaks(self) -> tuple[float, ...]:
        return self.inner.breaks

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        return self.factor * self.inner(sigma)


@dataclass(frozen=True)
class SplineWeight(Weight):
    """Piecewise linear in ln sigma between knots, constant beyond them.

    Attributes:
        knots: ln sigma, increasing, shape (K,), float64.
        values: w at the knots, shape (K,), float64.
    """

    knots: Float64[Tensor, "K"]
    values: Float64[Tensor, "K"]

    @property
    @override
    def breaks(self) -> tuple[float, ...]:
        return tuple(self.knots.exp().tolist())

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        right, share = _between(self.knots, sigma)
        values = self.values.to(sigma.device)
        return torch.lerp(values[right - 1], values[right], share).to(sigma.dtype)


def hat_functions(knots: Float64[Tensor, "K"], sigma: Scalars) -> Float64[Tensor, "*batch K"]:
    """Return the K piecewise linear functions that are 1 at one knot and 0 at the others.

    Args:
        knots: ln sigma, increasing, shape (K,), float64.
        sigma: noise levels, shape (...), > 0.

    Returns:
        Shape (..., K), float64; constant beyond the knots.
    """
    right, share = _between(knots, sigma)
    columns = torch.arange(len(knots), device=sigma.device)
    is_right = columns == right[..., None]
    is_left = columns == right[..., None] - 1
    return is_right * share[..., None] + is_left * (1 - share[..., None])


def _between(knots: Float64[Tensor, "K"], sigma: Scalars) -> tuple[Tensor, Tensor]:
    """Return the index of the knot above ln sigma, 1 to K - 1, and the share of the way to it."""
    knots = knots.to(sigma.device)
    position = sigma.double().log().clamp(float(knots[0]), float(knots[-1]))
    right = torch.searchsorted(knots, position.contiguous()).clamp(1, len(knots) - 1)
    left_knot, right_knot = knots[right - 1], knots[right]
    return right, (position - left_knot) / (right_knot - left_knot)


@dataclass(frozen=True)
class GuidedDenoiser(Denoiser):
    """Base denoiser, corrected by a discriminator."""

    base: Denoiser
    discriminator: Discriminator
    weight: Weight

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the base."""
        return levels_of(self.base)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        factor = self.weight(sigma) * sigma**2
        return self.base(x, sigma) + factor[..., None] * self.discriminator.gradient(x, sigma)

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return D_w and its divergence, that of the base plus w sigma^2 times the Laplacian."""
        denoised, divergence = self.base.with_divergence(x, sigma, probes)
        gradient, laplacian = self.discriminator.gradient_and_laplacian(x, sigma, probes)
        factor = self.weight(sigma) * sigma**2
        return denoised + factor[..., None] * gradient, divergence + factor * laplacian


@dataclass(frozen=True)
class StackedGuidance:
    """Guidance of one batch by several weights, so that they share the discriminator's calls.

    Attributes:
        base: the denoiser to be corrected.
        discriminator: its correction.
        weights: W of them.
        weight_index: row i is guided by ``weights[weight_index[i]]``; int64, shape (N,).
        labels: classes, int64, shape (N,); None if no model is conditional.
    """

    base: Denoiser
    discriminator: Discriminator
    weights: Sequence[Weight]
    weight_index: Int64[Tensor, "N"]
    labels: Int64[Tensor, "N"] | None = None

    def select(self, index: Tensor) -> GuidedDenoiser:
        """Return the denoiser of the rows ``index`` of the batch, in their order."""
        labels = None if self.labels is None else self.labels[index]
        return GuidedDenoiser(
            with_labels(self.base, labels),
            with_labels(self.discriminator, labels),
            PerRowWeight(self.weights, self.weight_index[index]),
        )


@dataclass(frozen=True)
class PerRowWeight(Weight):
    """One of several weights for each row; see ``StackedGuidance`` for the attributes."""

    weights: Sequence[Weight]
    weight_index: Tensor

    @property
    @override
    def breaks(self) -> tuple[float, ...]:
        return tuple({level for weight in self.weights for level in weight.breaks})

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        values = torch.stack([weight(sigma) for weight in self.weights])
        return values.gather(0, self.weight_index[None])[0]
