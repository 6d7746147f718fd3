"""Images and their splits as bytes (safetensors): what a study's workers are sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dgray.data.images import Shape
from dgray.files import safetensors_metadata
from dgray.problem.problem import Images

_ROWS = "rows."


@dataclass(frozen=True)
class StoredImages:
    """A set of images with its splits, on the CPU.

    Attributes:
        images: pixels and rows of each split.
        shape: (channels, height, width).
        num_classes: 0 where there are no labels.
        source: name of the data set and SHA-256 of its content.
    """

    images: Images
    shape: Shape
    num_classes: int
    source: Mapping[str, str]

    @property
    def pool(self) -> Tensor:
        """Rows of all images that are neither held out nor for validation, int64."""
        apart = torch.cat([self.images.rows["held_out"], self.images.rows["validation"]])
        is_free = torch.ones(len(self.images.pixels), dtype=torch.bool)
        is_free[apart] = False
        return is_free.nonzero()[:, 0]

    def to(self, device: torch.device) -> Images:
        """The images on a device."""
        images = self.images
        return Images(
            images.pixels.to(device),
            {split: rows.to(device) for split, rows in images.rows.items()},
            None if images.classes is None else images.classes.to(device),
        )


def pack_images(stored: StoredImages) -> bytes:
    """As safetensors; equal images give equal bytes."""
    images = stored.images
    tensors = {"pixels": images.pixels.contiguous()}
    tensors |= {_ROWS + split: rows.contiguous() for split, rows in images.rows.items()}
    if images.classes is not None:
        tensors["classes"] = images.classes.contiguous()
    about = {"shape": stored.shape, "num_classes": stored.num_classes, "source": stored.source}
    return safetensors.torch.save(tensors, {"about": json.dumps(about, sort_keys=True)})


def unpack_images(content: bytes) -> StoredImages:
    """What ``pack_images`` was given."""
    tensors: dict[str, Tensor] = safetensors.torch.load(content)
    about = json.loads(safetensors_metadata(content)["about"])
    rows = {name.removeprefix(_ROWS): t for name, t in tensors.items() if name.startswith(_ROWS)}
    channels, height, width = about["shape"]
    return StoredImages(
        Images(tensors["pixels"], rows, tensors.get("classes")),
        (channels, height, width),
        about["num_classes"],
        about["source"],
    )
