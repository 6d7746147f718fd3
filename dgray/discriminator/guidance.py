r"""Guidance: a denoiser from a denoiser and a discriminator (Kim et al. 2023, arXiv 2211.17091).

D_w(x; sigma) = D(x; sigma) + w(sigma) sigma^2 grad_x d(x; sigma): the score of D_w is the base's
plus w times the gradient of the logit. w = 0 is the base, w = 1 the exact correction by a perfect
discriminator. (Kim et al.'s published setting is w = 2 on Heun's first stage and none on its
second: on average 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.discriminator.discriminator import Discriminator


class Weight(Protocol):
    """The guidance weight as a function of the noise level."""

    def __call__(self, sigma: Tensor) -> Tensor:
        """The weight at sigma of shape (...), > 0; same shape."""
        ...


@dataclass(frozen=True)
class ConstantWeight:
    """The same weight at every noise level."""

    value: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """See ``Weight``."""
        return torch.full_like(sigma, self.value)


@dataclass(frozen=True)
class IntervalWeight:
    """Another weight inside [low, high], zero outside (Kynkaanniemi et al. 2024, 2404.07724)."""

    inner: Weight
    low: float
    high: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """See ``Weight``."""
        inside = (sigma >= self.low) & (sigma <= self.high)
        return torch.where(inside, self.inner(sigma), torch.zeros_like(sigma))


@dataclass(frozen=True)
class ScaledWeight:
    """Another weight times a factor; predictor-only guidance acts, to first order, at w / 2."""

    inner: Weight
    factor: float

    def __call__(self, sigma: Tensor) -> Tensor:
        """See ``Weight``."""
        return self.factor * self.inner(sigma)


@dataclass(frozen=True)
class SplineWeight:
    """Piecewise linear in ln sigma between knots, constant beyond them.

    Attributes:
        knots: ln sigma, increasing, shape (K,), float64.
        values: w at the knots, shape (K,), float64.
    """

    knots: Tensor
    values: Tensor

    def __call__(self, sigma: Tensor) -> Tensor:
        """See ``Weight``."""
        return (hat_functions(self.knots, sigma) @ self.values.to(sigma.device)).to(sigma.dtype)


def hat_functions(knots: Tensor, sigma: Tensor) -> Tensor:
    """The K piecewise linear functions that are 1 at one knot and 0 at the others, (..., K)."""
    knots = knots.to(sigma.device)
    position = sigma.double().log().clamp(float(knots[0]), float(knots[-1]))
    right = torch.searchsorted(knots, position.contiguous()).clamp(1, len(knots) - 1)
    left_knot, right_knot = knots[right - 1], knots[right]
    share = (position - left_knot) / (right_knot - left_knot)
    columns = torch.arange(len(knots), device=sigma.device)
    is_right = columns == right[..., None]
    is_left = columns == right[..., None] - 1
    return is_right * share[..., None] + is_left * (1 - share[..., None])


@dataclass(frozen=True)
class GuidedDenoiser:
    """The base denoiser, corrected by a discriminator."""

    base: Denoiser
    discriminator: Discriminator
    weight: Weight

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D_w(x; sigma) for x of shape (..., d), sigma of shape (...)."""
        factor = self.weight(sigma) * sigma**2
        return self.base(x, sigma) + factor[..., None] * self.discriminator.gradient(x, sigma)

    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same, and its divergence: that of the base plus w sigma^2 times the Laplacian."""
        denoised, divergence = self.base.with_divergence(x, sigma, probes)
        gradient, laplacian = self.discriminator.gradient_and_laplacian(x, sigma, probes)
        factor = self.weight(sigma) * sigma**2
        return denoised + factor[..., None] * gradient, divergence + factor * laplacian


@dataclass(frozen=True)
class StackedGuidance:
    """Several weights over one batch: row i of the whole batch is guided by weights[owner[i]].

    One discriminator call then serves every weight of a study. ``select`` gives the denoiser of
    some rows, in their order.
    """

    base: Denoiser
    discriminator: Discriminator
    weights: Sequence[Weight]
    owner: Tensor  # (N,), integer
    labels: Tensor | None = None  # (N,), classes; None where no model asks for them

    def select(self, index: Tensor) -> GuidedDenoiser:
        """The denoiser of the rows ``index`` of the whole batch."""
        labels = None if self.labels is None else self.labels[index]
        return GuidedDenoiser(
            with_labels(self.base, labels),
            with_labels(self.discriminator, labels),
            PerRowWeight(self.weights, self.owner[index]),
        )


@dataclass(frozen=True)
class PerRowWeight:
    """Each row its own weight, of those given."""

    weights: Sequence[Weight]
    owner: Tensor

    def __call__(self, sigma: Tensor) -> Tensor:
        """See ``Weight``; sigma of the shape of ``owner``."""
        values = torch.stack([weight(sigma) for weight in self.weights])
        return values.gather(0, self.owner[None])[0]
