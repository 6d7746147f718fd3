"""Training data of a base: points or images, converted to floats a batch at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.data.images import flatten, to_unit


@dataclass(frozen=True, eq=False)
class BaseData:
    """Samples to which a base is fitted, on the CPU.

    Attributes:
        samples: points, float of shape (n, d); or images, uint8 of shape (n, C, H, W).
        labels: classes, int64, shape (n,), for a class-conditional base; else None.
        flip: whether every drawn image is mirrored left to right with probability 1/2.

    Raises:
        ValueError: shapes or types do not match.
    """

    samples: Tensor
    labels: Tensor | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        is_image = self.samples.dtype == torch.uint8 and self.samples.ndim == 4
        is_point = self.samples.is_floating_point() and self.samples.ndim == 2
        if not (is_image or is_point) or not self.samples.numel():
            raise ValueError(
                "a base is fitted to float points (n, d) or uint8 images (n, C, H, W), at least "
                f"one, but got {self.samples.dtype} of shape {tuple(self.samples.shape)}"
            )
        if self.flip and not is_image:
            raise ValueError("only images can be mirrored; set flip: false for points")
        expected = (torch.int64, self.samples.shape[:1])
        if self.labels is not None and (self.labels.dtype, self.labels.shape) != expected:
            raise ValueError(
                f"labels must be int64 of shape ({len(self.samples)},), one per sample, but got "
                f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample, (d,) or (C, H, W)."""
        return tuple(self.samples.shape[1:])

    @property
    def sha256(self) -> str:
        """SHA-256 of samples and labels."""
        digest = hashlib.sha256()
        for values in (self.samples, self.labels):
            digest.update(b"none" if values is None else values.contiguous().numpy().data)
        return digest.hexdigest()

    def clean(self, chosen: Tensor, is_mirrored: Tensor | None) -> Tensor:
        """Return some samples as float32 vectors, images in [-1, 1].

        Args:
            chosen: rows, int64, shape (N,).
            is_mirrored: images to mirror, bool, shape (N,); None: none.

        Returns:
            Shape (N, d).
        """
        samples = self.samples[chosen]
        if samples.ndim == 2:
            return samples.float()
        if is_mirrored is not None:
            samples = torch.where(is_mirrored[:, None, None, None], samples.flip(-1), samples)
        return to_unit(flatten(samples))
