r"""Guidance by a discriminator (Kim et al. 2023, arXiv 2211.17091).

D_w(x; sigma) = D(x; sigma) + w(sigma) sigma^2 grad_x d(x; sigma): the score of D_w is the base's
plus w times the gradient of the logit. w = 0 is the base, w = 1 the exact correction by a perfect
discriminator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import override

from dgray.correction.acting import ActingDenoiser
from dgray.correction.linear import LinearCorrection
from dgray.correction.weight import Weight
from dgray.diffusion.denoiser import Conditional, Denoiser, with_labels
from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors
from dgray.discriminator.discriminator import Discriminator


@dataclass(frozen=True)
class Guidance(LinearCorrection):
    """Correction of the score by the gradient of a logit."""

    discriminator: Discriminator

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return getattr(self.discriminator, "tensors", ())  # a control has none

    @property
    def num_classes(self) -> int:
        """Number of classes that the discriminator reads; 0: none."""
        return self.discriminator.num_classes if isinstance(self.discriminator, Conditional) else 0

    def with_labels(self, labels: Labels) -> Guidance:
        """Return the guidance of samples of these classes."""
        return replace(self, discriminator=with_labels(self.discriminator, labels))

    @override
    def score_change(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self.discriminator.gradient(x, sigma)

    @override
    def score_change_and_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        return self.discriminator.gradient_and_laplacian(x, sigma, probes)


def guided_denoiser(
    base: Denoiser, discriminator: Discriminator, weight: Weight, labels: Tensor | None = None
) -> ActingDenoiser[Guidance]:
    """Return a base guided by a discriminator; both are bound to the labels."""
    bound, guidance = with_labels(base, labels), with_labels(Guidance(discriminator), labels)
    return ActingDenoiser(bound, guidance, weight, labels)
