r"""The path-space KL of the reverse SDE, for every guidance weight from one pass.

Girsanov's theorem (Song et al. 2021, arXiv 2101.09258) with g^2 dt = d(sigma^2) gives
KL(p_T || prior) + int E|sigma (grad log p - s - w grad d)|^2 d ln sigma. With
a = sigma (grad log p - s) and b = sigma grad d the integrand is |a|^2 - 2 w a.b + w^2 |b|^2: three
numbers a point and noise level hold every weight, and every change against the base in pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.discriminator.guidance import Weight
from dgray.metrics.estimate import Estimate


@dataclass(frozen=True)
class NoiseRange:
    """Noise levels over which a path is integrated, in equal bins of ln sigma."""

    sigma_min: float
    sigma_max: float
    num_bins: int

    @property
    def log_length(self) -> float:
        """ln(sigma_max / sigma_min)."""
        return math.log(self.sigma_max / self.sigma_min)

    def by_bin(self, values: Tensor) -> list[Estimate]:
        """Mean over points, by bin, of stratified values of shape (N, S); S a multiple of bins."""
        per_bin = values.reshape(len(values), self.num_bins, -1).mean(2)
        return [Estimate.of(column) for column in per_bin.unbind(1)]


@dataclass(frozen=True)
class PathMoments:
    """What path KLs need of N points at S stratified noise levels (``sigmas.stratified``).

    Attributes:
        sigma: shape (N, S).
        base: |a|^2, shape (N, S).
        cross: a.b, shape (N, S).
        cost: |b|^2, shape (N, S).
        prior: log p(x_T; sigma_max) - log prior(x_T), shape (N,); its mean is KL(p_T || prior).
            None where the score of the data is not known, and so only changes are.
    """

    sigma: Tensor
    base: Tensor
    cross: Tensor
    cost: Tensor
    prior: Tensor | None

    def squared_error(self, weight: Weight) -> Tensor:
        """|sigma (score of the data - guided score)|^2, shape (N, S)."""
        return self.base + self.change(weight)

    def change(self, weight: Weight) -> Tensor:
        """The same minus that of the base, shape (N, S)."""
        w = weight(self.sigma)
        return w**2 * self.cost - 2 * w * self.cross


@dataclass(frozen=True)
class PathDivergence:
    """The path KL of one guidance weight, in nats; ``change`` against the base, in bins too."""

    level: PathLevel | None
    change: Estimate
    change_bins: list[Estimate]


@dataclass(frozen=True)
class PathLevel:
    """What only a known score of the data gives: path KL and score error themselves."""

    path_kl: Estimate
    path_kl_bins: list[Estimate]
    score_error: Estimate
    score_error_bins: list[Estimate]


def path_divergence(moments: PathMoments, weight: Weight, span: NoiseRange) -> PathDivergence:
    """Path KL, its change against the base, and the score error, with standard errors over points.

    Bins sum to path_kl minus the prior's term.
    """
    change = moments.change(weight).double()
    length = span.log_length
    return PathDivergence(
        level=_level(moments, weight, span),
        change=Estimate.of(length * change.mean(1)),
        change_bins=[each.scaled(length / span.num_bins) for each in span.by_bin(change)],
    )


def _level(moments: PathMoments, weight: Weight, span: NoiseRange) -> PathLevel | None:
    if moments.prior is None:
        return None
    error = moments.squared_error(weight).double()
    length = span.log_length
    bins = span.by_bin(error)
    return PathLevel(
        path_kl=Estimate.of(moments.prior.double() + length * error.mean(1)),
        path_kl_bins=[each.scaled(length / span.num_bins) for each in bins],
        score_error=Estimate.of(error.mean(1)),
        score_error_bins=bins,
    )


def squared_norm(vectors: Tensor) -> Tensor:
    """|v|^2 over the last dimension, in float64."""
    squared: Tensor = torch.linalg.vecdot(vectors.double(), vectors.double())
    return squared
