"""The space of the samples of a model: their shape, scale, classes and noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from dgray.data.images import Shape, to_unit
from dgray.diffusion.denoiser import Denoiser
from dgray.errors import GuidedModelError

IMAGE_AXES = 3  # C, H, W
TensorLike = Tensor | np.ndarray  # what users have


@dataclass(frozen=True)
class SampleSpace:
    """Shape of samples, and the noise levels between which they are generated.

    Attributes:
        size: shape of a sample, (d,) or (C, H, W).
        sigmas: (sigma_min, sigma_max).
        sigma_data: scale of the data, > 0.
        num_classes: classes of the data where a model is conditional; else 0.
        device: device of the models.
    """

    size: tuple[int, ...]
    sigmas: tuple[float, float]
    sigma_data: float
    num_classes: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if len(self.size) not in (1, IMAGE_AXES):
            raise GuidedModelError(
                "a sample must be a point (d,) or an image (C, H, W), but its shape is "
                f"{self.size}; reshape the samples"
            )
        if not 0 < self.sigmas[0] < self.sigmas[1]:
            raise GuidedModelError(
                f"sigmas must be (low, high) with 0 < low < high, but got {self.sigmas}"
            )

    @property
    def dimension(self) -> int:
        """Number d of values of a sample."""
        return math.prod(self.size)

    @property
    def is_image(self) -> bool:
        """True if samples are images."""
        return len(self.size) == IMAGE_AXES

    @property
    def shape(self) -> Shape | None:
        """Shape (C, H, W) of images; None of points."""
        if not self.is_image:
            return None
        channels, height, width = self.size
        return channels, height, width

    def flat(self, x: TensorLike) -> Tensor:
        """Return samples (n, *size) as vectors, float64 (n, d); bytes are scaled to [-1, 1].

        Raises:
            GuidedModelError: their shape is another.
        """
        x = torch.as_tensor(x)
        if tuple(x.shape[1:]) != self.size:
            raise GuidedModelError(
                f"samples must have shape (n, {', '.join(map(str, self.size))}), but got "
                f"{tuple(x.shape)}"
            )
        vectors = x.to(self.device).reshape(len(x), self.dimension)
        return to_unit(vectors, torch.float64) if x.dtype == torch.uint8 else vectors.double()

    def levels(self, sigma: TensorLike | float, count: int) -> Tensor:
        """Return one noise level for each of ``count`` samples, float64 (count,).

        Raises:
            GuidedModelError: ``sigma`` is neither a number nor one for each sample.
        """
        levels = torch.as_tensor(sigma, dtype=torch.float64, device=self.device).reshape(-1)
        if len(levels) not in (1, count):
            raise GuidedModelError(
                f"sigma must be a number or have shape ({count},), one for each sample, but got "
                f"shape {tuple(levels.shape)}"
            )
        return levels.expand(count)


@dataclass(frozen=True)
class SpaceWithBase(SampleSpace):
    """Sample space with the base, from which a discriminator or a correction is built.

    Attributes:
        base: denoiser of vectors, whose encoder can be the trunk.
    """

    base: Denoiser = field(kw_only=True)

    @property
    def span(self) -> tuple[float, float]:
        """Noise levels between which samples are generated; the name in a study."""
        return self.sigmas

    @staticmethod
    def of(space: SampleSpace, base: Denoiser) -> SpaceWithBase:
        """Add the base to a space."""
        values = {f.name: getattr(space, f.name) for f in fields(space)}
        return SpaceWithBase(**values, base=base)
