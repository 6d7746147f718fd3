"""Corrections that are linear in their weight: D_w = D + w(sigma) sigma^2 c(x; sigma)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from typing_extensions import override

from dgray.correction.acting import ActingDenoiser
from dgray.correction.correction import Correction
from dgray.correction.weight import Weight
from dgray.diffusion.denoiser import Conditional, Denoiser, NoiseLevels, levels_of, with_labels
from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors
from dgray.discriminator.objective import Batch, acting_levels


@runtime_checkable
class LinearCorrection(Correction, Protocol):
    """Correction by w(sigma) times a fixed change c of the score.

    x has shape (..., d) and sigma, > 0, shape (...).
    """

    def score_change(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return c(x; sigma), shape (..., d)."""
        ...

    def score_change_and_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return c, shape (..., d), and sum_i dc_i/dx_i, shape (...), without a graph.

        Args:
            x: shape (..., d).
            sigma: shape (...), > 0.
            probes: vectors of +-1, shape (P, ..., d), for Hutchinson's estimate of the divergence;
                ignored where the exact one is cheap.
        """
        ...

    @override
    def denoiser(self, base: Denoiser, weight: Weight) -> Denoiser:
        return CorrectedDenoiser(base, self, weight)


@dataclass(frozen=True)
class CorrectedDenoiser(Denoiser):
    """Base with a linear correction: D_w = D + w(sigma) sigma^2 c."""

    base: Denoiser
    correction: LinearCorrection
    weight: Weight

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the base."""
        return levels_of(self.base)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        factor = self.weight(sigma) * sigma**2
        return self.base(x, sigma) + factor[..., None] * self.correction.score_change(x, sigma)

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return D_w and its divergence, that of the base plus w sigma^2 times that of c."""
        denoised, divergence = self.base.with_divergence(x, sigma, probes)
        change, change_divergence = self.correction.score_change_and_divergence(x, sigma, probes)
        factor = self.weight(sigma) * sigma**2
        return denoised + factor[..., None] * change, divergence + factor * change_divergence


@dataclass(frozen=True)
class Secant(LinearCorrection):
    """Change of the score by another correction at one weight: linear, and equal to it at w = 1.

    With it, what is computed for linear corrections is computed for others, weight by weight.

    Attributes:
        base: denoiser to be corrected.
        correction: correction that need not be linear in its weight.
        weight: the weight.
    """

    base: Denoiser
    correction: Correction
    weight: Weight

    @property
    def num_classes(self) -> int:
        """Number of classes that base or correction read."""
        models = (self.base, self.correction)
        return max(m.num_classes if isinstance(m, Conditional) else 0 for m in models)

    def with_labels(self, labels: Labels) -> Self:
        """Return the change on samples of these classes."""
        base, correction = with_labels(self.base, labels), with_labels(self.correction, labels)
        return replace(self, base=base, correction=correction)

    @override
    def score_change(self, x: Vectors, sigma: Scalars) -> Vectors:
        change = self.correction.denoiser(self.base, self.weight)(x, sigma) - self.base(x, sigma)
        return change / sigma[..., None] ** 2

    @override
    def score_change_and_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        corrected = self.correction.denoiser(self.base, self.weight)
        (after, divergence), (before, of_base) = (
            denoiser.with_divergence(x, sigma, probes) for denoiser in (corrected, self.base)
        )
        return (after - before) / sigma[..., None] ** 2, (divergence - of_base) / sigma**2


def acting_change(corrected: ActingDenoiser[Correction], x: Vectors, sigma: Scalars) -> Vectors:
    """Return w(sigma) c(x; sigma), shape (..., d): the score of D_w minus that of the base."""
    correction, weight = corrected.correction, corrected.weight
    if isinstance(correction, LinearCorrection):
        return weight(sigma)[..., None] * correction.score_change(x, sigma)
    return Secant(corrected.base, correction, weight).score_change(x, sigma)


def scaled_change(
    correction: LinearCorrection,
    batch: Batch,
    intervals: Collection[tuple[float, float] | None] = (None,),
) -> Vectors:
    """Return sigma c on the real samples of a batch, shape (..., N, d).

    Outside of all ``intervals`` of noise levels (None: everywhere) it is not computed, and is 0.
    """
    real = batch.real
    inside = acting_levels(real.sigma, intervals)
    if inside is None:
        bound = with_labels(correction, real.labels)
        return real.sigma[..., None] * bound.score_change(real.x, real.sigma)
    labels = None if real.labels is None else real.labels.expand(inside.shape)[inside]
    sigma, change = real.sigma[inside], torch.zeros_like(real.x)
    bound = with_labels(correction, labels)
    change[inside] = sigma[:, None] * bound.score_change(real.x[inside], sigma)
    return change


def denoising_error(change: Vectors, batch: Batch) -> Scalars:
    """Return |D_1(x; sigma) - x0|^2 / sigma^2 from sigma c, on the real samples, shape (..., N).

    It is the integrand of the path KL up to a constant that depends on no correction.
    """
    return ((batch.residual + change) ** 2).sum(-1)
