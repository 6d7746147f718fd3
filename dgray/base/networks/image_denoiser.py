"""A preconditioned network of images as a denoiser of vectors.

Samplers, guidance and likelihoods know vectors x of d = C H W values; this is where they become
images. Knows torch; not files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from dgray.base.networks.preconditioning import Preconditioned
from dgray.diffusion.denoiser import AutogradDenoiser


@dataclass(frozen=True)
class NetworkDenoiser:
    """D(x; sigma), computed in float32 and returned in the dtype of x; see ``Denoiser``.

    Attributes:
        module: D of images (N, C, H, W); put it in evaluation mode.
        shape: (C, H, W), d = C H W.
        num_classes: 0: unconditional.
        labels: the class of each row, int64 in [-1, num_classes), broadcast to the shape of sigma;
            -1: no class. None: no class, for all rows.
    """

    module: Preconditioned
    shape: tuple[int, int, int]
    num_classes: int = 0
    labels: Tensor | None = None

    def with_labels(self, labels: Tensor) -> NetworkDenoiser:
        """See ``Conditional``; an unconditional network has no use for labels and ignores them.

        Raises:
            ValueError: a label outside [-1, num_classes).
        """
        if not self.num_classes:
            return self
        outside = (labels < -1) | (labels >= self.num_classes)
        if bool(outside.any()):
            raise ValueError(
                f"labels must lie in [-1, {self.num_classes}), the classes of the network and -1 "
                f"for none, but there is {labels[outside][0].item()}"
            )
        return replace(self, labels=labels)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Denoiser``."""
        sigma = sigma.expand(x.shape[:-1])
        images = x.reshape(-1, *self.shape)
        denoised: Tensor = self.module(images, sigma.reshape(-1), self._one_hot(sigma))
        return denoised.reshape(x.shape).to(x.dtype)

    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Denoiser``: one forward pass and a backward pass per dimension, or per probe."""
        return AutogradDenoiser(self.__call__).with_divergence(x, sigma, probes)

    @property
    def dimension(self) -> int:
        """The length d of x."""
        return math.prod(self.shape)

    def _one_hot(self, sigma: Tensor) -> Tensor | None:
        if self.labels is None:
            return None
        labels = self.labels.to(sigma.device).expand(sigma.shape).reshape(-1)
        # class -1 takes the first of num_classes + 1 columns, which is then cut off
        one_hot = functional.one_hot(labels + 1, self.num_classes + 1)[:, 1:]
        return one_hot.to(torch.float32)
