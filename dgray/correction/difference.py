r"""Correction by the difference of a second denoiser D' and the base D.

Towards it, D_w = D + w (D' - D), where D' is the better one (``fine_tune``); away from it,
D_w = D + w (D - D'), where D' makes the errors of the base more strongly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor
from typing_extensions import override

from dgray.correction.linear import LinearCorrection
from dgray.correction.weight import Weight
from dgray.diffusion.denoiser import Conditional, Denoiser, NoiseLevels, levels_of, with_labels
from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors


@dataclass(frozen=True)
class DenoiserDifference(LinearCorrection):
    """Change of the score c = +-(D' - D) / sigma^2.

    Attributes:
        base: the denoiser to be corrected, D.
        other: the second denoiser, D'.
        sign: 1: towards D'; -1: away from it.
        trained: trained tensors of D'.
    """

    base: Denoiser
    other: Denoiser
    sign: Literal[1, -1]
    trained: tuple[Tensor, ...] = ()

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return self.trained

    @property
    def num_classes(self) -> int:
        """Number of classes that one of the denoisers reads; 0: none."""
        models = (self.base, self.other)
        return max(m.num_classes if isinstance(m, Conditional) else 0 for m in models)

    def with_labels(self, labels: Labels) -> DenoiserDifference:
        """Return the correction of samples of these classes."""
        base, other = (with_labels(m, labels) for m in (self.base, self.other))
        return replace(self, base=base, other=other)

    @override
    def score_change(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self.sign * (self.other(x, sigma) - self.base(x, sigma)) / sigma[..., None] ** 2

    @override
    def score_change_and_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        other, divergence = self.other.with_divergence(x, sigma, probes)
        base, of_base = self.base.with_divergence(x, sigma, probes)
        change = self.sign * (other - base) / sigma[..., None] ** 2
        return change, self.sign * (divergence - of_base) / sigma**2

    @override
    def denoiser(self, base: Denoiser, weight: Weight) -> Denoiser:
        return BlendedDenoiser(base, self.other, weight, self.sign)


@dataclass(frozen=True)
class BlendedDenoiser(Denoiser):
    """D_w = D + sign w(sigma) (D' - D), with one call of each; see ``DenoiserDifference``."""

    base: Denoiser
    other: Denoiser
    weight: Weight
    sign: Literal[1, -1]

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the base."""
        return levels_of(self.base)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        base, share = self.base(x, sigma), self.sign * self.weight(sigma)
        return base + share[..., None] * (self.other(x, sigma) - base)

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        base, of_base = self.base.with_divergence(x, sigma, probes)
        other, divergence = self.other.with_divergence(x, sigma, probes)
        share = self.sign * self.weight(sigma)
        return base + share[..., None] * (other - base), of_base + share * (divergence - of_base)
