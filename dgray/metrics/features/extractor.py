"""What a feature extractor is, and how images go through one.

An extractor says what it is (``FeatureSource``), because a distance means nothing without the
features it was measured in. No image sees another: features do not depend on the batch beyond
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureSource:
    """What features are features of.

    Attributes:
        name: the metric's name, ``fid_...`` for Inception's alone, else ``fd_...``.
        dimension: F, how many numbers an image has.
        resize: what happens to an image before the network, in words.
        sha256: of the file with the network's weights; empty where there is no file.
    """

    name: str
    dimension: int
    resize: str
    sha256: str


class FeatureExtractor(Protocol):
    """A network that maps images to vectors, on its device."""

    @property
    def source(self) -> FeatureSource:
        """What it is."""
        ...

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features, float32 (N, F), of images, uint8 (N, C, H, W) with 1 or 3 channels."""
        ...


def extract(extractor: FeatureExtractor, pixels: Tensor, batch_size: int = 64) -> Tensor:
    """Features of images in batches, float32, shape (N, F), on the CPU.

    Args:
        extractor: the network.
        pixels: uint8, shape (N, C, H, W), N > 0.
        batch_size: images at a time, > 0; changes the result by rounding only.

    Raises:
        ValueError: pixels are none, or the features have another shape or are not finite.
    """
    check_pixels(pixels)
    parts = [extractor(batch).cpu() for batch in pixels.split(batch_size)]
    features = torch.cat(parts)
    check_features(features, extractor.source.name, (len(pixels), extractor.source.dimension))
    return features


def check_pixels(pixels: Tensor) -> None:
    """Refuse what is not a batch of grey or RGB images in bytes.

    Raises:
        ValueError: says so.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or not pixels.numel():
        raise ValueError(
            "images must be uint8 of shape (N, C, H, W), none of them 0, but got "
            f"{pixels.dtype} of shape {tuple(pixels.shape)}"
        )
    if pixels.shape[1] not in (1, 3):
        raise ValueError(
            "features need images of 1 channel (grey) or 3 (RGB), but these have "
            f"{pixels.shape[1]}; drop the others, such as transparency"
        )


def check_features(features: Tensor, name: str, shape: tuple[int, int]) -> None:
    """Refuse features of another shape or type, and nan or infinite ones.

    Raises:
        ValueError: says so.
    """
    if features.dtype != torch.float32 or tuple(features.shape) != shape:
        raise ValueError(
            f"{name} must give float32 features of shape {shape}, one row per image, but gave "
            f"{features.dtype} of shape {tuple(features.shape)}"
        )
    finite = torch.isfinite(features).all(1)
    if not bool(finite.all()):
        raise ValueError(
            f"{name} must give finite features, but {int((~finite).sum())} of {len(features)} "
            "images have some that are nan or infinite"
        )


def as_rgb(pixels: Tensor, device: torch.device) -> Tensor:
    """Float32 images in 0..255 with three channels on the device; grey becomes equal channels."""
    check_pixels(pixels)
    return pixels.to(device).float().expand(-1, 3, -1, -1)
