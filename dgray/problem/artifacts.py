"""Shared artifacts: their contents as a trial sees them, and the steps of their computation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dgray.data.images import Shape, to_unit, unflatten
from dgray.files import safetensors_metadata

_ROWS = "rows."


@dataclass(frozen=True)
class ImageSamples:
    """Stored images: rows of one array of pixels, by split.

    Attributes:
        pixels: uint8, shape (n, d).
        rows: indices of the images of each split, int64.
        classes: class of each image, int64 (n,); None without classes.
    """

    pixels: Tensor
    rows: Mapping[str, Tensor]
    classes: Tensor | None = None

    def take(self, split: str, count: int, first: int | None = None) -> Tensor:
        """Return the first images of a split in [-1, 1]."""
        return to_unit(self.stored(split, count)[:first], torch.float64)

    def stored(self, split: str, count: int) -> Tensor:
        """Return images of a split, uint8 (count, d)."""
        return self.pixels[self.rows[split][:count]]

    def labels(self, split: str, count: int) -> Tensor | None:
        """Return the classes of images of a split."""
        return None if self.classes is None else self.classes[self.rows[split][:count]]

    def to(self, device: torch.device) -> ImageSamples:
        """Return the images on a device."""
        return ImageSamples(
            self.pixels.to(device),
            {split: rows.to(device) for split, rows in self.rows.items()},
            None if self.classes is None else self.classes.to(device),
        )


@dataclass(frozen=True)
class StoredImages:
    """Set of images with its splits, on the CPU.

    Attributes:
        images: pixels, and rows of each split.
        shape: (channels, height, width).
        num_classes: 0 where there are no labels.
        source: summary of the data set (``DataSummary.to_json``) and SHA-256 of its content.
    """

    images: ImageSamples
    shape: Shape
    num_classes: int
    source: Mapping[str, Any]

    @property
    def pool(self) -> Tensor:
        """Rows of all images that are in neither the held-out nor the validation split, int64."""
        apart = torch.cat([self.images.rows["held_out"], self.images.rows["validation"]])
        is_free = torch.ones(len(self.images.pixels), dtype=torch.bool)
        is_free[apart] = False
        return is_free.nonzero()[:, 0]

    def pixels(self, rows: Tensor) -> Tensor:
        """Return some images, uint8 (len(rows), C, H, W)."""
        return unflatten(self.images.pixels[rows], self.shape)


def pack_images(stored: StoredImages) -> bytes:
    """Return the images as safetensors; equal images give equal bytes."""
    images = stored.images
    tensors = {"pixels": images.pixels.contiguous()}
    tensors |= {_ROWS + split: rows.contiguous() for split, rows in images.rows.items()}
    if images.classes is not None:
        tensors["classes"] = images.classes.contiguous()
    about = {"shape": stored.shape, "num_classes": stored.num_classes, "source": stored.source}
    return safetensors.torch.save(tensors, {"about": json.dumps(about)})


def unpack_images(content: bytes) -> StoredImages:
    """Invert ``pack_images``."""
    tensors: dict[str, Tensor] = safetensors.torch.load(content)
    about = json.loads(safetensors_metadata(content)["about"])
    rows = {name.removeprefix(_ROWS): t for name, t in tensors.items() if name.startswith(_ROWS)}
    channels, height, width = about["shape"]
    return StoredImages(
        ImageSamples(tensors["pixels"], rows, tensors.get("classes")),
        (channels, height, width),
        about["num_classes"],
        about["source"],
    )


@dataclass(frozen=True)
class Shared:
    """Shared artifacts of one trial by role (see ``dgray.problem.artifact_table.ARTIFACTS``)."""

    contents: Mapping[str, bytes]

    def __getitem__(self, role: str) -> bytes:
        try:
            return self.contents[role]
        except KeyError:
            raise ValueError(
                f"the artifact {role!r} is needed, but the shared artifacts are: "
                f"{', '.join(self.contents) or 'none'}"
            ) from None

    def get(self, role: str) -> bytes | None:
        """Return an artifact; None if it has not been made."""
        return self.contents.get(role)

    @property
    def images(self) -> StoredImages:
        """Images of the data set with their splits, on the CPU."""
        return unpack_images(self["images"])

    def tensors(self, role: str) -> dict[str, Tensor]:
        """Return the tensors of an artifact by name, on the CPU."""
        return safetensors.torch.load(self[role])
