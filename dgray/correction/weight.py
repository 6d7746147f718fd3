"""Weights of a correction as functions of the noise level.

A correction of weight w adds w(sigma) times its change of the score to the score of the base: 0
is the base, 1 the whole correction. (Kim et al. 2023, arXiv 2211.17091, publish guidance with
w = 2 on Heun's first stage and 0 on its second, on average 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.noise import on_device
from dgray.diffusion.shapes import Scalars

_END = 1e-6  # relative tolerance at the ends of the noise range; admits levels in float32


class Weight(Protocol):
    """Weight as a function of the noise level."""

    @property
    def breaks(self) -> tuple[float, ...]:
        """Noise levels at which the weight or its derivative is discontinuous."""
        return ()

    @property
    def is_zero(self) -> bool:
        """True only if the weight is 0 at every noise level, so that the base is not changed."""
        return False

    def __call__(self, sigma: Scalars) -> Scalars:
        """Return the weight at noise levels of shape (...), > 0; same shape."""
        ...


@dataclass(frozen=True)
class ConstantWeight(Weight):
    """The same weight at every noise level."""

    value: float

    @property
    @override
    def is_zero(self) -> bool:
        return self.value == 0

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
        return () if self.is_zero else (*self.inner.breaks, self.low, self.high)

    @property
    @override
    def is_zero(self) -> bool:
        return self.inner.is_zero

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        inside = (sigma >= self.low) & (sigma <= self.high)
        return torch.where(inside, self.inner(sigma), torch.zeros_like(sigma))


def in_noise_range(weight: Weight, low: float, high: float) -> Weight:
    """Return a weight that is 0 outside the noise range of a study.

    A sampler with churn goes above its highest level, where most corrections would extrapolate.
    """
    return IntervalWeight(weight, low * (1 - _END), high * (1 + _END))


@dataclass(frozen=True)
class ScaledWeight(Weight):
    """Another weight times a factor; to first order, predictor-only guidance acts at w / 2."""

    inner: Weight
    factor: float

    @property
    @override
    def breaks(self) -> tuple[float, ...]:
        return self.inner.breaks

    @property
    @override
    def is_zero(self) -> bool:
        return self.inner.is_zero

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
        # Not the knots on a straight line: a weight that is 0 everywhere is integrated like the
        # base, so that it has the same bits.
        flat = self.knots.new_zeros(1)
        slopes = torch.cat([flat, self.values.diff() / self.knots.diff(), flat])
        return tuple(self.knots[slopes.diff() != 0].exp().tolist())

    @property
    @override
    def is_zero(self) -> bool:
        return not self.values.any()

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        right, share = _between(self.knots, sigma)
        values = on_device(self.values, sigma.device)
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
    hats = torch.zeros(*sigma.shape, len(knots), dtype=torch.float64, device=sigma.device)
    hats.scatter_(-1, right[..., None] - 1, 1 - share[..., None])
    return hats.scatter_(-1, right[..., None], share[..., None])


def _between(knots: Float64[Tensor, "K"], sigma: Scalars) -> tuple[Tensor, Tensor]:
    """Return the index of the knot above ln sigma, 1 to K - 1, and the share of the way to it."""
    low, high = float(knots[0]), float(knots[-1])  # on the host
    knots = on_device(knots, sigma.device)
    position = sigma.double().log().clamp(low, high)
    right = torch.searchsorted(knots, position.contiguous()).clamp(1, len(knots) - 1)
    left_knot, right_knot = knots[right - 1], knots[right]
    return right, (position - left_knot) / (right_knot - left_knot)


@dataclass(frozen=True)
class PerRowWeight(Weight):
    """One of several weights for each row of a batch, so that they share one call of the networks.

    Attributes:
        weights: W of them.
        weight_index: row i has ``weights[weight_index[i]]``; int64, shape (N,).
    """

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


@dataclass(frozen=True)
class BlockWeight(Weight):
    """Weights of a batch of equal blocks of rows, one for each block, in their order.

    Samples of several settings are drawn as such a batch: the weight of every row is known on the
    host.
    """

    weights: tuple[Weight, ...]

    @property
    @override
    def breaks(self) -> tuple[float, ...]:
        return tuple({level for weight in self.weights for level in weight.breaks})

    @override
    def __call__(self, sigma: Scalars) -> Scalars:
        blocks = sigma.chunk(len(self.weights))
        return torch.cat([weight(s) for weight, s in zip(self.weights, blocks, strict=True)])
