"""Discriminator of samples in their own shape."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dgray.diffusion.denoiser import with_labels
from dgray.discriminator.discriminator import Discriminator
from dgray.guided.arguments import Labels, Levels, TensorLike, like, tensor_of
from dgray.guided.description import TrainedPart
from dgray.guided.space import SampleSpace


@dataclass(frozen=True)
class SampleDiscriminator:
    """Discriminator of samples in their own shape: estimate of log p_data - log p_base.

    Attributes:
        inner: the same of vectors.
        space: space of its samples.
        part: how it is built, if it can be stored.
    """

    inner: Discriminator = field(repr=False)
    space: SampleSpace
    part: TrainedPart | None = field(default=None, repr=False)

    def logit(self, x: TensorLike, sigma: Levels, labels: Labels | None = None) -> Tensor:
        """Return the logit of noised samples x ``(n, *size)`` at sigma, in nats, shape (n,).

        Without gradients in x: that is ``gradient``.

        Args:
            x: noised samples.
            sigma: noise levels > 0, one or shape (n,).
            labels: classes of a conditional model, one or int64 (n,); -1: no class.

        Raises:
            GuidedModelError: a value is invalid.
        """
        x = tensor_of("samples", x)
        model, flat, levels = self._bound(x, sigma, labels)
        with torch.no_grad():
            return like(model.logit(flat, levels), x)

    def gradient(self, x: TensorLike, sigma: Levels, labels: Labels | None = None) -> Tensor:
        """Return the gradient of the logit in x, in the shape of x; see ``logit``."""
        x = tensor_of("samples", x)
        model, flat, levels = self._bound(x, sigma, labels)
        with torch.no_grad():
            return like(model.gradient(flat, levels).reshape(x.shape), x)

    __call__ = logit

    def _bound(
        self, x: TensorLike, sigma: Levels, labels: Labels | None
    ) -> tuple[Discriminator, Tensor, Tensor]:
        flat, levels = self.space.flat(x), self.space.levels(sigma, len(x))
        classes = self.space.labels(labels, len(x), self.inner)
        return with_labels(self.inner, classes), flat, levels
