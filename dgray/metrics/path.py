r"""Path-space KL of the reverse SDE, for all guidance weights from one pass.

Girsanov's theorem (Song et al. 2021, arXiv 2101.09258) with noise of variance d(sigma^2) gives
KL(p_T || prior) + int E|sigma (grad log p - s - w grad d)|^2 d ln sigma. With
a = sigma (grad log p - s) and b = sigma grad d the integrand is |a|^2 - 2 w a.b + w^2 |b|^2. Three
numbers per point and noise level thus give every weight, and its paired change against the base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dgray.correction.weight import Weight
from dgray.diffusion.shapes import Scalars, Vectors
from dgray.metrics.estimate import Estimate, jackknife_error, jackknife_parts


@dataclass(frozen=True)
class NoiseRange:
    """Noise levels over which a path is integrated, in bins of equal width in ln sigma."""

    sigma_min: float
    sigma_max: float
    num_bins: int

    @property
    def log_length(self) -> float:
        """Return ln(sigma_max / sigma_min)."""
        return math.log(self.sigma_max / self.sigma_min)

    def by_bin(self, values: Float[Tensor, "N S"]) -> list[Estimate]:
        """Return the mean over points in each bin; S must be a multiple of the bins."""
        per_bin = values.reshape(len(values), self.num_bins, -1).mean(2)
        return [Estimate.of(column) for column in per_bin.unbind(1)]


@dataclass(frozen=True)
class PathMoments:
    """Terms of path KLs at N points and S stratified noise levels (``sigmas.stratified``).

    Attributes:
        sigma: noise levels.
        base: |a|^2.
        cross: a.b.
        cost: |b|^2.
        prior: log p(x_T; sigma_max) - log prior(x_T), whose mean is KL(p_T || prior); None if the
            score of the data is unknown, so that only changes against the base are defined.
    """

    sigma: Float[Tensor, "N S"]
    base: Float[Tensor, "N S"]
    cross: Float[Tensor, "N S"]
    cost: Float[Tensor, "N S"]
    prior: Float[Tensor, "N"] | None

    def squared_error(self, weight: Weight) -> Float[Tensor, "N S"]:
        """Return |sigma (score of the data - guided score)|^2."""
        return self.base + self.change(weight)

    def change(self, weight: Weight) -> Float[Tensor, "N S"]:
        """Return ``squared_error`` minus that of the base."""
        return self.change_at(weight(self.sigma))

    def change_at(self, w: Float[Tensor, "*F N S"]) -> Float[Tensor, "*F N S"]:
        """Return ``change`` for values of one or several weights at the noise levels."""
        return w**2 * self.cost - 2 * w * self.cross


@dataclass(frozen=True)
class PathDivergence:
    """Path KL of one guidance weight, in nats: change against the base and, if known, level."""

    level: PathLevel | None
    change: Estimate
    change_bins: list[Estimate]

    def with_fit_error(self, refits: Float[Tensor, "F B"], span: NoiseRange) -> PathDivergence:
        """Return it with the error of a weight that was fitted to a finite split.

        Args:
            refits: mean of ``PathMoments.change`` in each bin at the weights that were fitted
                without each of F groups of the points of that split.
            span: noise levels and bins.
        """
        bins, total = jackknife_error(refits).tolist(), float(jackknife_error(refits.mean(1)))
        length, width = span.log_length, span.log_length / span.num_bins
        level = self.level and PathLevel(
            path_kl=self.level.path_kl.with_error(length * total),
            path_kl_bins=_with_errors(self.level.path_kl_bins, bins, width),
            score_error=self.level.score_error.with_error(total),
            score_error_bins=_with_errors(self.level.score_error_bins, bins, 1.0),
        )
        parts = tuple(length * part for part in jackknife_parts(refits.mean(1)))
        change = self.change.with_error(length * total, parts)
        return PathDivergence(level, change, _with_errors(self.change_bins, bins, width))


def _with_errors(bins: list[Estimate], errors: list[float], factor: float) -> list[Estimate]:
    return [b.with_error(factor * e) for b, e in zip(bins, errors, strict=True)]


@dataclass(frozen=True)
class PathLevel:
    """Path KL and score error, which only a known score of the data gives."""

    path_kl: Estimate
    path_kl_bins: list[Estimate]
    score_error: Estimate
    score_error_bins: list[Estimate]


def path_divergence(moments: PathMoments, weight: Weight, span: NoiseRange) -> PathDivergence:
    """Return path KL, its change against the base and the score error, with errors over points.

    The bins of the path KL sum to it minus the term of the prior.
    """
    change = moments.change(weight).double()
    length = span.log_length
    return PathDivergence(
        level=_level(moments, weight, span),
        change=Estimate.of(length * change.mean(1)).with_parts(length * change.mean(1)),
        change_bins=[bin.scaled(length / span.num_bins) for bin in span.by_bin(change)],
    )


def _level(moments: PathMoments, weight: Weight, span: NoiseRange) -> PathLevel | None:
    if moments.prior is None:
        return None
    error = moments.squared_error(weight).double()
    length = span.log_length
    bins = span.by_bin(error)
    return PathLevel(
        path_kl=Estimate.of(moments.prior.double() + length * error.mean(1)),
        path_kl_bins=[bin.scaled(length / span.num_bins) for bin in bins],
        score_error=Estimate.of(error.mean(1)),
        score_error_bins=bins,
    )


def squared_norm(vectors: Vectors) -> Scalars:
    """Return |v|^2 in float64."""
    squared: Tensor = torch.linalg.vecdot(vectors.double(), vectors.double())
    return squared


def variances(error: Float[Tensor, "N S"]) -> tuple[float, float]:
    """Return two parts of the variance of a point's mean over S >= 2 stratified noise levels.

    The first is due to the noise at the levels, and falls as 1/S; the second is that between
    points at exact integrals. Given a point, the means over even and over odd levels are
    independent, so their covariance over points is the second part.
    """
    even, odd = error[:, ::2].mean(1), error[:, 1::2].mean(1)
    between = max(float(torch.stack([even, odd]).cov()[0, 1]), 0.0)
    return max(float(error.mean(1).var()) - between, 0.0), between
