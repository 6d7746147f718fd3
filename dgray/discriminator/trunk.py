r"""Frozen trunks: networks whose feature maps a small trained head looks at.

Kim et al. 2023 (arXiv 2211.17091) guide by a head on the features of a classifier. The gradient
in x runs through the trunk, so a trunk must be twice differentiable in x; its own weights need no
gradient, and none is computed.
"""

from __future__ import annotations

import importlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

TYPICAL_CHANNELS = 128  # at full resolution: EDM's CIFAR-10 networks, DG's classifier


class Trunk(Protocol):
    """A fixed, smooth map from noisy samples to feature maps; no sample sees another."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(F, h, w) of a feature map."""
        ...

    @property
    def activation_size(self) -> int:
        """Numbers in the largest activation of one sample; bounds how many go at once."""
        ...

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Feature maps of x of shape (N, d) and sigma of shape (N,), shape (N, F, h, w)."""
        ...


@dataclass(frozen=True)
class ModuleTrunk:
    """A torch module as a trunk: called with noisy images (N, C, H, W) and sigma (N,).

    The module is told the noise level and decides itself what to make of it: the images are
    x0 + sigma n, unscaled. It returns features (N, F, h, w), or (N, F) for maps of one pixel.

    Attributes:
        module: frozen, in evaluation mode.
        image: (C, H, W) of its input.
        shape: of its feature maps.
    """

    module: nn.Module
    image: tuple[int, int, int]
    shape: tuple[int, int, int]

    @staticmethod
    def of(module: nn.Module, image: tuple[int, int, int]) -> ModuleTrunk:
        """Freeze a module and find out what it returns.

        Raises:
            ValueError: if it does not return feature maps, or not differentiable ones.
        """
        module = module.eval()
        for weight in module.parameters():  # TorchScript refuses module.requires_grad_
            weight.requires_grad_(False)
        device = next((t.device for t in module.parameters()), torch.device("cpu"))
        images = torch.zeros(2, *image, device=device).requires_grad_()
        with torch.enable_grad():
            features = module(images, torch.ones(2, device=device))
        if not isinstance(features, Tensor) or features.ndim not in (2, 4) or len(features) != 2:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(
                "a trunk must return features (N, F, h, w) or (N, F), but for images "
                f"{tuple(images.shape)} it returned {found}"
            )
        if not features.requires_grad:
            raise ValueError(
                "a trunk must be differentiable by its images, since guidance is a gradient, but "
                "its features are not; do not use torch.no_grad or detach in it"
            )
        channels, height, width = (*features.shape[1:], 1, 1)[:3]
        return ModuleTrunk(module, image, (channels, height, width))

    @property
    def activation_size(self) -> int:
        """See ``Trunk``; a guess, since a module does not tell."""
        return TYPICAL_CHANNELS * math.prod(self.image[1:])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Trunk``."""
        features: Tensor = self.module(x.unflatten(-1, self.image), sigma)
        return features[..., None, None] if features.ndim == 2 else features


def load_trunk(where: str, image: tuple[int, int, int], device: torch.device) -> ModuleTrunk:
    """A user's network as a trunk.

    Args:
        where: path of a TorchScript file (``.pt``, ``.ts``), or ``module:function``, a function
            without arguments that returns a module.
        image: (C, H, W).
        device: where it shall run.

    Raises:
        ValueError: if there is no such thing, or it is no trunk.
    """
    if Path(where).is_file():
        module = _load_torchscript(where, device)
    elif ":" in where:
        module = _call(where)
    else:
        raise ValueError(
            f"discriminator.trunk must be none, base, a TorchScript file or module:function, but "
            f"there is no file {where}"
        )
    return ModuleTrunk.of(module.to(device), image)


def _load_torchscript(path: str, device: torch.device) -> nn.Module:
    with warnings.catch_warnings():  # torch has deprecated the format, not the files out there
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        module: nn.Module = torch.jit.load(path, map_location=device)
    return module


def _call(where: str) -> nn.Module:
    name, _, attribute = where.rpartition(":")
    try:
        function = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"discriminator.trunk: {where} cannot be imported ({error}); it must be "
            f"module:function with the module on PYTHONPATH"
        ) from error
    module = function()
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"discriminator.trunk: {where}() must return a torch.nn.Module, but returned "
            f"{type(module).__name__}"
        )
    return module
