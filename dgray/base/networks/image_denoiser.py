"""Denoiser of vectors around a preconditioned network of images.

Samplers, guidance and likelihoods use vectors x of d = C H W values; here they become images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from dgray.base.networks.facts import NetworkFacts
from dgray.base.networks.preconditioning import Preconditioned
from dgray.diffusion.denoiser import Denoiser, NoiseLevels, check_labels


@dataclass(frozen=True)
class NetworkDenoiser(Denoiser):
    """Denoiser computed in float32 and returned in the dtype of x.

    Attributes:
        module: network of images (N, C, H, W), in evaluation mode.
        shape: (C, H, W), d = C H W.
        num_classes: 0: unconditional.
        labels: class of each row, int64 in [-1, num_classes), of a shape that broadcasts to that
            of sigma; -1: no class. None: no row has one.
    """

    module: Preconditioned
    shape: tuple[int, int, int]
    num_classes: int = 0
    labels: Tensor | None = None

    def with_labels(self, labels: Tensor) -> NetworkDenoiser:
        """Return the denoiser bound to labels, which an unconditional network ignores.

        Raises:
            ValueError: a label is neither a class nor -1.
        """
        if not self.num_classes:
            return self
        check_labels(labels, self.num_classes)
        return replace(self, labels=labels)

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels that the network supports."""
        return self.module.levels

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.expand(x.shape[:-1])
        images = x.reshape(-1, *self.shape)
        denoised: Tensor = self.module(images, sigma.reshape(-1), self._one_hot(sigma))
        return denoised.reshape(x.shape).to(x.dtype)

    @property
    def facts(self) -> NetworkFacts:
        """Facts about the network, to be compared with a study."""
        low, high = self.module.sigma_min, self.module.sigma_max
        return NetworkFacts("the base", self.shape, self.num_classes, low, high)

    @property
    def dimension(self) -> int:
        """Dimension d of x."""
        return math.prod(self.shape)

    def _one_hot(self, sigma: Tensor) -> Tensor | None:
        if self.labels is None:
            return None
        labels = self.labels.to(sigma.device).expand(sigma.shape).reshape(-1)
        # class -1 is the first of num_classes + 1 columns, which is removed
        one_hot = functional.one_hot(labels + 1, self.num_classes + 1)[:, 1:]
        return one_hot.to(torch.float32)
