"""Features of the Inception-v3 of FID, in the three modes of clean-fid.

Heusel et al. 2017 (arXiv 1706.08500) defined FID on the network of TensorFlow's file of
2015-12-05; Parmar et al. 2022 (arXiv 2104.11222) showed how strongly FID depends on resizing.
Modes and features equal those of clean-fid:

- ``clean``: Pillow's antialiased bicubic filter, each channel in float, not rounded; TorchScript
  network.
- ``legacy_pytorch``: bilinear interpolation without antialiasing; pytorch-fid's port of the
  network.
- ``legacy_tensorflow``: the TorchScript network resizes, as TensorFlow did; used by EDM and DG.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from dgray.errors import FeaturesError
from dgray.files import sha256_of
from dgray.metrics.features.extractor import Features, FeatureSource, Pixels, as_rgb
from dgray.metrics.features.inception_file import find_weights, weights_file

InceptionMode = Literal["clean", "legacy_pytorch", "legacy_tensorflow"]
MODES: tuple[InceptionMode, ...] = get_args(InceptionMode)

DIMENSION = 2048
SIZE = 299  # height and width of the training images of the network
RESIZE = {
    "clean": "Pillow bicubic to 299x299, antialiased, channels in float32",
    "legacy_pytorch": "bilinear to 299x299, not antialiased",
    "legacy_tensorflow": "inside the network",
}


@dataclass(frozen=True, eq=False)
class InceptionFeatures:
    """Feature extractor that returns the last pooling layer of Inception-v3.

    Attributes:
        source: description of the features; the name is ``fid_`` and the mode.
        device: device of the network.
        forward: from images (N, 3, H, W) in 0..255, float32, to features (N, 2048).
    """

    source: FeatureSource
    device: torch.device
    forward: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> Features:
        """Return the 2048 features of images with 1 or 3 channels."""
        rgb = as_rgb(pixels, self.device)
        return self.forward(rgb).reshape(len(pixels), DIMENSION).float()


def load_inception(
    mode: InceptionMode, device: torch.device | str = "cpu", weights: Path | bytes | None = None
) -> InceptionFeatures:
    """Load the network in one of the modes of clean-fid, from a local file.

    Args:
        mode: method of resizing and port of the network.
        device: device of the network.
        weights: the file, its folder or its content; None: the place of ``DGRAY_INCEPTION``, or
            that of clean-fid.

    Raises:
        FeaturesError: if there is no such mode, or the file holds something else.
        MissingFileError: if the file is missing; states which file to put where.
    """
    if mode not in MODES:
        raise FeaturesError(f"the mode must be one of {', '.join(MODES)}, but got {mode!r}")
    device = torch.device(device)
    if isinstance(weights, bytes):
        origin, content = "the given content", weights
    else:
        path = find_weights(weights_file(mode), weights)
        origin, content = str(path), path.read_bytes()
    source = FeatureSource(f"fid_{mode}", DIMENSION, RESIZE[mode], sha256_of(content))
    build = {
        "clean": _clean,
        "legacy_pytorch": _legacy_pytorch,
        "legacy_tensorflow": _legacy_tensorflow,
    }[mode]
    try:
        forward = build(content, device)
    except (ValueError, RuntimeError, AttributeError, EOFError, OSError, UnpicklingError) as error:
        raise FeaturesError(
            f"{origin} cannot be read as the Inception-v3 weights that mode {mode!r} needs "
            f"({error}); download the file of this mode again"
        ) from error
    return InceptionFeatures(source, device, forward)


def _clean(content: bytes, device: torch.device) -> Callable[[Tensor], Tensor]:
    layers = _script(content, device).layers

    def forward(rgb: Tensor) -> Tensor:
        resized = torch.stack([_bicubic(image) for image in rgb.cpu().numpy()]).to(device)
        return cast(Tensor, layers((resized - 128) / 128))

    return forward


def _legacy_tensorflow(content: bytes, device: torch.device) -> Callable[[Tensor], Tensor]:
    network = _script(content, device)
    return lambda rgb: cast(Tensor, network(rgb, return_features=True))


def _legacy_pytorch(content: bytes, device: torch.device) -> Callable[[Tensor], Tensor]:
    network = _ported_inception()
    with warnings.catch_warnings():
        # For the file of another mode, torch warns before it refuses to load it.
        warnings.filterwarnings("ignore", r"'torch\.load' received a zip file", UserWarning)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    network.fc = nn.Identity()
    network = network.to(device).eval().requires_grad_(False)

    def forward(rgb: Tensor) -> Tensor:
        size = (SIZE, SIZE)
        resized = F.interpolate(rgb, size=size, mode="bilinear", align_corners=False)
        return cast(Tensor, network(2 * (resized.clamp(0, 255) / 255) - 1))

    return forward


def _script(content: bytes, device: torch.device) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        # The published file is TorchScript and does not exist in the successor of this format.
        warnings.filterwarnings("ignore", r"`torch\.jit\.load`", FutureWarning)
        network = torch.jit.load(io.BytesIO(content), map_location=device)
    return cast(torch.jit.ScriptModule, network.eval())


def _bicubic(image: np.ndarray) -> Tensor:
    """Resize (3, H, W) to (3, 299, 299), clipped to 0..255 where the filter overshoots."""
    filtered = [
        np.asarray(Image.fromarray(channel).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for channel in image
    ]
    return torch.from_numpy(np.stack(filtered).clip(0, 255))


def _ported_inception() -> nn.Module:
    """Return torchvision's Inception-v3 with the blocks that differ in TensorFlow's of 2015."""
    from cleanfid import inception_pytorch as blocks  # slow to import, and only this needs it
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    network.Mixed_5b = blocks.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = blocks.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = blocks.FIDInceptionA(288, pool_features=64)
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", blocks.FIDInceptionC(768, channels_7x7=width))
    network.Mixed_7b = blocks.FIDInceptionE_1(1280)
    network.Mixed_7c = blocks.FIDInceptionE_2(2048)
    return cast(nn.Module, network)
