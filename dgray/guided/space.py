"""The space of the samples of a model: their shape, scale, classes and noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from dgray.data.images import Shape, to_unit
from dgray.diffusion.denoiser import Conditional, Denoiser
from dgray.errors import GuidedModelError
from dgray.guided.arguments import (
    IMAGE_AXES,
    Labels,
    Levels,
    TensorLike,
    check_scaled,
    checked_labels,
    is_readable,
    tensor_of,
)


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
        if not 0 < self.sigmas[0] < self.sigmas[1] < math.inf:
            raise GuidedModelError(
                f"sigmas must be finite (low, high) with 0 < low < high, but got {self.sigmas}"
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
        x = tensor_of("samples", x)
        if tuple(x.shape[1:]) != self.size:
            raise GuidedModelError(
                f"samples must have shape (n, {', '.join(map(str, self.size))}), but got "
                f"{tuple(x.shape)}"
            )
        vectors = x.to(self.device).reshape(len(x), self.dimension)
        return to_unit(vectors, torch.float64) if x.dtype == torch.uint8 else vectors.double()

    def clean(self, x: TensorLike) -> Tensor:
        """Return samples without noise as ``flat`` does.

        Raises:
            GuidedModelError: their shape is another, or images are pixels that are not scaled.
        """
        check_scaled(tensor_of("samples", x))
        return self.flat(x)

    def levels(self, sigma: Levels, count: int, *, with_zero: bool = False) -> Tensor:
        """Return one noise level for each of ``count`` samples, float64 (count,).

        Args:
            sigma: noise level, or one for each sample.
            count: number of samples.
            with_zero: 0 is a noise level too.

        Raises:
            GuidedModelError: ``sigma`` is neither a number nor one for each sample, or not finite
                and > 0.
        """
        levels = tensor_of("sigma", sigma, torch.float64).reshape(-1)
        if len(levels) not in (1, count):
            raise GuidedModelError(
                f"sigma must be a number or have shape ({count},), one for each sample, but got "
                f"shape {tuple(levels.shape)}"
            )
        is_wrong = ~(((levels > 0) | ((levels == 0) & with_zero)) & levels.isfinite())
        if is_readable(levels) and bool(is_wrong.any()):
            wrong = levels[is_wrong]
            raise GuidedModelError(
                f"sigma must be finite and {'>=' if with_zero else '>'} 0, but is "
                f"{float(wrong[0]):g}; choose levels from {self.sigmas[0]:g} to {self.sigmas[1]:g}"
            )
        return levels.to(self.device).expand(count)

    def labels(self, labels: Labels | None, count: int, *models: object) -> Tensor | None:
        """Return the class of each of ``count`` samples, int64 (count,); None: there are none.

        Args:
            labels: classes (count,), or one for all samples; -1: no class.
            count: number of samples.
            models: models that are bound to the labels; those that are conditional have a number
                of classes.

        Raises:
            GuidedModelError: the labels have another type or shape, or one is no class.
        """
        if labels is None:
            return None
        numbers = [m.num_classes for m in models if isinstance(m, Conditional) and m.num_classes]
        return checked_labels(labels, count, min(numbers, default=0), lowest=-1).to(self.device)


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
