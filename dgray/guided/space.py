"""The space of the samples of a model: their shape, scale, classes and noise levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from dgray.data.images import Shape, to_unit
from dgray.diffusion.denoiser import Denoiser
from dgray.errors import GuidedModelError, one_line

IMAGE_AXES = 3  # C, H, W
MAX_SCALED = 2.0  # images in [-1, 1] may exceed 1 a little; larger values are pixels
TensorLike = Tensor | np.ndarray  # what users have
Levels = TensorLike | Sequence[float] | float  # noise levels, or one of all samples
Labels = TensorLike | Sequence[int] | int  # classes, or one of all samples


def check_scaled(samples: Tensor) -> None:
    """Check that images without noise are bytes or scaled.

    Raises:
        GuidedModelError: they are numbers that look like pixels from 0 to 255.
    """
    if samples.ndim != IMAGE_AXES + 1 or samples.dtype == torch.uint8 or not samples.numel():
        return
    if float(samples.min()) >= 0 and float(samples.max()) > MAX_SCALED:
        raise GuidedModelError(
            "images must be bytes or numbers in [-1, 1], but the largest value is "
            f"{float(samples.max()):g}; divide by 127.5 and subtract 1, or convert to uint8"
        )


def _is_readable(values: Tensor) -> bool:
    """Return False on an accelerator, where each reading of a value would wait for it."""
    return values.device.type == "cpu"


def checked_labels(labels: Labels, count: int, num_classes: int, *, lowest: int) -> Tensor:
    """Return the class of each of ``count`` samples, int64 (count,).

    Args:
        labels: classes (count,), or one for all samples.
        count: number of samples.
        num_classes: number of classes; 0: any.
        lowest: 0, or -1 if a sample can have no class.

    Raises:
        GuidedModelError: the labels have another type or shape, or one is no class.
    """
    try:
        classes = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise GuidedModelError(
            f"labels must be classes, integers of shape ({count},), but got "
            f"{one_line(repr(labels), 60)}"
        ) from None
    is_integer = not (
        classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool
    )
    if not is_integer or classes.shape not in ((), (count,)):
        raise GuidedModelError(
            f"labels must be classes, integers of shape ({count},) or one for all samples, but "
            f"got {classes.dtype} of shape {tuple(classes.shape)}"
        )
    classes = classes.long().expand(count)
    is_wrong = (classes < lowest) | (classes >= (num_classes or math.inf))
    if _is_readable(classes) and bool(is_wrong.any()):
        wrong = classes[is_wrong]
        span = f"from 0 to {num_classes - 1}" if num_classes else "0, 1, ..."
        none = ", or -1 for none" if lowest < 0 else ""
        raise GuidedModelError(
            f"labels must be classes {span}{none}, but one is {int(wrong[0])}; choose a "
            "class of the model"
        )
    return classes


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
        x = torch.as_tensor(x)
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
        check_scaled(torch.as_tensor(x))
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
        levels = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1)
        if len(levels) not in (1, count):
            raise GuidedModelError(
                f"sigma must be a number or have shape ({count},), one for each sample, but got "
                f"shape {tuple(levels.shape)}"
            )
        is_wrong = ~(((levels > 0) | ((levels == 0) & with_zero)) & levels.isfinite())
        if _is_readable(levels) and bool(is_wrong.any()):
            wrong = levels[is_wrong]
            raise GuidedModelError(
                f"sigma must be finite and {'>=' if with_zero else '>'} 0, but is "
                f"{float(wrong[0]):g}; choose levels from {self.sigmas[0]:g} to {self.sigmas[1]:g}"
            )
        return levels.to(self.device).expand(count)

    def labels(self, labels: Labels | None, count: int, num_classes: int) -> Tensor | None:
        """Return the class of each of ``count`` samples, int64 (count,); None: there are none.

        Args:
            labels: classes (count,), or one for all samples; -1: no class.
            count: number of samples.
            num_classes: number of classes of the model; 0: any.

        Raises:
            GuidedModelError: the labels have another type or shape, or one is no class.
        """
        if labels is None:
            return None
        return checked_labels(labels, count, num_classes, lowest=-1).to(self.device)


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
