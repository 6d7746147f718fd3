"""A guided denoiser as a network of EDM, for sampling loops of Karras et al. 2022."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.diffusion.denoiser import levels_of
from dgray.errors import GuidedModelError
from dgray.guided.model import GuidedDenoiser


@dataclass(frozen=True)
class EdmNetwork:
    """Callable with the interface of EDM's networks (``EDMPrecond``), as its samplers call it.

    Attributes:
        guided: guided denoiser of images.
    """

    guided: GuidedDenoiser

    @property
    def sigma_min(self) -> float:
        """Lowest noise level."""
        return max(self.guided.space.sigmas[0], levels_of(self.guided.base).low)

    @property
    def sigma_max(self) -> float:
        """Highest noise level."""
        return min(self.guided.space.sigmas[1], levels_of(self.guided.base).high)

    @property
    def img_channels(self) -> int:
        """Channels of an image."""
        return self.guided.space.size[0]

    @property
    def img_resolution(self) -> int:
        """Height and width of an image.

        Raises:
            GuidedModelError: images are not square, or samples are points.
        """
        size = self.guided.space.size
        if len(size) == 1 or size[1] != size[2]:
            raise GuidedModelError(f"EDM's networks have square images, but samples are {size}")
        return size[2]

    @property
    def label_dim(self) -> int:
        """Number of classes; 0: unconditional."""
        return self.guided.space.num_classes

    def round_sigma(self, sigma: Tensor | float) -> Tensor:
        """Return the nearest noise levels at which the base may be called."""
        return levels_of(self.guided.base).round(torch.as_tensor(sigma))

    def __call__(
        self, x: Tensor, sigma: Tensor | float, class_labels: Tensor | None = None
    ) -> Tensor:
        """Denoise.

        Args:
            x: noised samples ``(n, *size)``.
            sigma: noise level, a number or one for each sample, of any shape.
            class_labels: one-hot, shape (n, label_dim); zeros: no class.
        """
        labels = None
        if class_labels is not None and self.label_dim:
            labels = torch.where(class_labels.any(1), class_labels.argmax(1), -1)
        return self.guided(x, sigma, labels)
