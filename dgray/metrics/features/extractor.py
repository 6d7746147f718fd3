"""Interface of feature extractors, and feature extraction in batches.

An extractor states its features (``FeatureSource``), because a distance is meaningless without
them. Up to rounding, the features of an image do not depend on the other images of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from dgray.errors import FeaturesError

Pixels = UInt8[Tensor, "N C H W"]
Features = Float32[Tensor, "N F"]


@dataclass(frozen=True)
class FeatureSource:
    """Description of features.

    Attributes:
        name: name of the Fréchet distance in them: ``fid_...`` for Inception-v3, else ``fd_...``.
        dimension: number of features F of an image.
        resize: description of how images are resized before the network.
        sha256: SHA-256 of the file of weights; empty if there is no file.
    """

    name: str
    dimension: int
    resize: str
    sha256: str


class FeatureExtractor(Protocol):
    """Network that maps images to feature vectors."""

    @property
    def source(self) -> FeatureSource:
        """Description of the features."""
        ...

    def __call__(self, pixels: Pixels) -> Features:
        """Return the features of images with 1 or 3 channels, on the device of the network."""
        ...


def extract(extractor: FeatureExtractor, pixels: Pixels, batch_size: int = 64) -> Features:
    """Return the features of images, computed in batches, on the CPU.

    Args:
        extractor: the network.
        pixels: images, N > 0.
        batch_size: images per batch, > 0; changes the result by rounding only.

    Raises:
        FeaturesError: if the images or the features have another shape or type, or some features
            are not finite.
    """
    check_pixels(pixels)
    parts = [extractor(batch) for batch in pixels.split(batch_size)]
    features = torch.cat(parts).cpu()
    check_features(features, extractor.source.name, (len(pixels), extractor.source.dimension))
    return features


def check_pixels(pixels: Tensor) -> None:
    """Check that ``pixels`` is a batch of grey or RGB images in bytes.

    Raises:
        FeaturesError: if it is not.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or not pixels.numel():
        raise FeaturesError(
            "images must be uint8 of shape (N, C, H, W), none of them 0, but got "
            f"{pixels.dtype} of shape {tuple(pixels.shape)}"
        )
    if pixels.shape[1] not in (1, 3):
        raise FeaturesError(
            "features need images of 1 channel (grey) or 3 (RGB), but these have "
            f"{pixels.shape[1]}; drop the others, such as transparency"
        )


def check_features(features: Tensor, name: str, shape: tuple[int, int]) -> None:
    """Check that features are finite and have the expected shape and type.

    Raises:
        FeaturesError: if they are not.
    """
    if features.dtype != torch.float32 or tuple(features.shape) != shape:
        raise FeaturesError(
            f"{name} must give float32 features of shape {shape}, one row per image, but gave "
            f"{features.dtype} of shape {tuple(features.shape)}"
        )
    finite = torch.isfinite(features).all(1)
    if not bool(finite.all()):
        raise FeaturesError(
            f"{name} must give finite features, but {int((~finite).sum())} of {len(features)} "
            "images have some that are nan or infinite"
        )


def as_rgb(pixels: Tensor, device: torch.device) -> Tensor:
    """Return float32 images in 0..255 with three channels (equal for grey), on the device."""
    check_pixels(pixels)
    return pixels.to(device).float().expand(-1, 3, -1, -1)
