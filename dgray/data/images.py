"""Images in memory, and the exact conversion between bytes and vectors.

Images are bytes (N, C, H, W). Diffusion uses vectors x of d = C H W numbers in [-1, 1], in the
order C, H, W.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dgray.data.labels import Classes
from dgray.data.summary import DataSummary, class_counts
from dgray.errors import DataError

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one shape, with or without classes.

    Attributes:
        name: name in messages and reports.
        pixels: uint8, shape (N, C, H, W), on the CPU.
        labels: int64, shape (N,), classes from 0 to num_classes - 1; None: no classes.
        num_classes: number of classes, including those without images; 0 without labels.
        is_test: bool, shape (N,), marks the test part of the data set; None if it has none.
        class_names: name of each class; empty: the classes are named by their numbers.
        remarks: what was skipped or changed when the images were read.

    Raises:
        DataError: if shapes, types or labels are inconsistent.
    """

    name: str
    pixels: Tensor
    labels: Tensor | None = None
    num_classes: int = 0
    is_test: Tensor | None = None
    class_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, pixels: Tensor, classes: Classes, remarks: tuple[str, ...] = ()) -> ImageSet:
        """Return images with the classes that were read for them."""
        labels = None if classes.labels is None else torch.from_numpy(classes.labels)
        return ImageSet(
            name,
            pixels,
            labels,
            len(classes.names),
            class_names=classes.names,
            remarks=(*classes.remarks, *remarks),
        )

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or not self.pixels.numel():
            raise DataError(
                f"{self.name}: pixels must be uint8 of shape (N, C, H, W), none of them 0, but "
                f"got {self.pixels.dtype} of shape {tuple(self.pixels.shape)}"
            )
        for part, values, dtype in (
            ("labels", self.labels, torch.int64),
            ("is_test", self.is_test, torch.bool),
        ):
            if values is not None and (values.dtype != dtype or values.shape != (len(self),)):
                raise DataError(
                    f"{self.name}: {part} must be {dtype} of shape ({len(self)},), one per image, "
                    f"but got {values.dtype} of shape {tuple(values.shape)}"
                )
        if (self.labels is None) != (self.num_classes == 0):
            raise DataError(
                f"{self.name}: num_classes must be 0 without labels and positive with them, "
                f"but got {self.num_classes}"
            )
        if self.labels is not None:
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= self.num_classes:
                raise DataError(
                    f"{self.name}: labels must be from 0 to {self.num_classes - 1}, "
                    f"but they go from {low} to {high}"
                )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def noun(self) -> str:
        """Name of its samples, in the plural."""
        return "images"

    @property
    def content(self) -> Tensor:
        """The pixels, by which images are divided into splits."""
        return self.pixels

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of shape, pixels, labels and test marks in their order, not of the name."""
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.num_classes)).encode())
        for values in (self.pixels, self.labels, self.is_test):
            digest.update(b"none" if values is None else values.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def summary(self) -> DataSummary:
        """Facts that the owner of the images can compare with what they should be."""
        counts = None
        if self.labels is not None:
            names = self.class_names or tuple(map(str, range(self.num_classes)))
            counts = class_counts(names, self.labels.tolist())
        num_test = None if self.is_test is None else int(self.is_test.sum())
        return DataSummary(self.name, len(self), self.shape, counts, self.remarks, num_test)

    def subset(self, indices: Tensor) -> ImageSet:
        """Return the images at these indices, int64, in this order."""
        return replace(
            self,
            pixels=self.pixels[indices],
            labels=None if self.labels is None else self.labels[indices],
            is_test=None if self.is_test is None else self.is_test[indices],
        )

    def vectors(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the images as vectors, shape (N, d), in [-1, 1]."""
        return to_unit(flatten(self.pixels), dtype)


def to_unit(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert bytes 0..255 to numbers in [-1, 1]: x = p / 127.5 - 1."""
    if pixels.dtype != torch.uint8:
        raise DataError(f"pixels must be uint8, but got {pixels.dtype}")
    return pixels.to(dtype) / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Round numbers in [-1, 1] to the nearest byte 0..255, halves upwards, clipped.

    floor(127.5 x + 128), the rule of EDM's generator (Karras et al. 2022, arXiv 2206.00364), which
    is 127.5 (x + 1) rounded. Inverts ``to_unit`` exactly in float32 and float64.

    Raises:
        DataError: if a number is nan or infinite.
    """
    if not bool(torch.isfinite(x).all()):
        raise DataError("images must be finite to become bytes, but some numbers are nan or inf")
    return (127.5 * x + 128).floor().clamp(0, 255).to(torch.uint8)


def flatten(images: Tensor) -> Tensor:
    """Reshape (..., C, H, W) to (..., d)."""
    return images.flatten(-3)


def unflatten(x: Tensor, shape: Shape) -> Tensor:
    """Reshape (..., d) to (..., C, H, W).

    Raises:
        DataError: if d is not C H W.
    """
    if x.shape[-1] != math.prod(shape):
        raise DataError(
            f"the last dimension must be C H W = {math.prod(shape)} for images of shape {shape}, "
            f"but got {x.shape[-1]}"
        )
    return x.reshape(*x.shape[:-1], *shape)


def mirrored(images: ImageSet) -> ImageSet:
    """Return the images followed by their mirror images, left to right.

    To be used after the split, so that the mirror image of a training image is a training image.
    Unlike random mirroring, it needs no random numbers, and an epoch has both of every image.
    """

    def twice(values: Tensor | None) -> Tensor | None:
        return None if values is None else torch.cat([values, values])

    return replace(
        images,
        name=f"{images.name}, mirrored",
        pixels=torch.cat([images.pixels, images.pixels.flip(-1)]),
        labels=twice(images.labels),
        is_test=twice(images.is_test),
    )
