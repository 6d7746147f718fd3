r"""Frozen trunks: networks whose feature maps are the input of a small trained head.

Kim et al. 2023 (arXiv 2211.17091) guide by a head on the features of a classifier. The gradient
in x runs through the trunk, so a trunk must be twice differentiable in x. No gradient of its own
weights is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from dgray.catalogue import load_object
from dgray.errors import DiscriminatorError


class Trunk(Protocol):
    """Fixed, smooth map from noisy samples to feature maps that treats every sample alone."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (F, h, w) of a feature map."""
        ...

    @property
    def activation_size(self) -> int:
        """Numbers in the largest activation of one sample; bounds the samples of a block."""
        ...

    def __call__(
        self, x: Float[Tensor, "N d"], sigma: Float[Tensor, "N"]
    ) -> Float[Tensor, "N F h w"]:
        """Return feature maps (N, F, h, w) of x (N, d) at noise levels sigma (N,)."""
        ...


@dataclass(frozen=True)
class ModuleTrunk(Trunk):
    """Trunk that is a torch module, called with noisy images (N, C, H, W) and sigma (N,).

    The images are x0 + sigma n, unscaled; scaling them by the noise level is up to the module. It
    returns features (N, F, h, w), or (N, F) for maps of one pixel.

    Attributes:
        module: frozen, in evaluation mode.
        image: (C, H, W) of its input.
        feature_shape: (F, h, w) of its feature maps.
        largest_activation: numbers in its largest activation of one sample.
    """

    module: nn.Module
    image: tuple[int, int, int]
    feature_shape: tuple[int, int, int]
    largest_activation: int

    @staticmethod
    def of(module: nn.Module, image: tuple[int, int, int]) -> ModuleTrunk:
        """Freeze a module; determine its feature maps and largest activation by a call.

        Raises:
            DiscriminatorError: it does not return feature maps, or they are not differentiable.
        """
        module = module.eval()
        for weight in module.parameters():  # TorchScript refuses module.requires_grad_
            weight.requires_grad_(False)
        device = next((t.device for t in module.parameters()), torch.device("cpu"))
        images = torch.zeros(2, *image, device=device).requires_grad_()
        with torch.enable_grad(), _ActivationSizes(len(images)) as activations:
            features = module(images, torch.ones(2, device=device))
        if not isinstance(features, Tensor) or features.ndim not in (2, 4) or len(features) != 2:
            result = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise DiscriminatorError(
                "a trunk must return features (N, F, h, w) or (N, F), but for images "
                f"{tuple(images.shape)} it returned {result}"
            )
        if not features.requires_grad:
            raise DiscriminatorError(
                "a trunk must be differentiable by its images, since guidance is a gradient, but "
                "its features are not; do not use torch.no_grad or detach in it"
            )
        channels, height, width = (*features.shape[1:], 1, 1)[:3]
        return ModuleTrunk(module, image, (channels, height, width), activations.largest)

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return self.feature_shape

    @property
    @override
    def activation_size(self) -> int:
        return self.largest_activation

    @override
    def __call__(
        self, x: Float[Tensor, "N d"], sigma: Float[Tensor, "N"]
    ) -> Float[Tensor, "N F h w"]:
        features: Tensor = self.module(x.unflatten(-1, self.image), sigma)
        return features[..., None, None] if features.ndim == 2 else features


class _ActivationSizes(TorchDispatchMode):
    """Largest output of one sample among all operations on ``count`` samples."""

    def __init__(self, count: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count, self.largest = count, 1

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation and read the size of its outputs."""
        outputs = func(*args, **(kwargs or {}))
        for output in outputs if isinstance(outputs, (tuple, list)) else (outputs,):
            if isinstance(output, Tensor) and output.ndim and len(output) == self.count:
                self.largest = max(self.largest, output.numel() // self.count)
        return outputs


def load_trunk(source: str, image: tuple[int, int, int], device: torch.device) -> ModuleTrunk:
    """Load a user's network as a trunk.

    Args:
        source: path of a TorchScript file (``.pt``, ``.ts``), or ``module:function``, a function
            without arguments that returns a module.
        image: (C, H, W).
        device: device of the trunk.

    Raises:
        DiscriminatorError: the source does not exist, or cannot be a trunk.
    """
    if Path(source).is_file():
        module = _load_torchscript(source, device)
    elif ":" in source:
        module = _build(source)
    else:
        raise DiscriminatorError(
            f"discriminator.trunk must be none, base, a TorchScript file or module:function, but "
            f"there is no file {source}"
        )
    return ModuleTrunk.of(module.to(device), image)


def _load_torchscript(path: str, device: torch.device) -> nn.Module:
    with warnings.catch_warnings():  # torch deprecated the format, but its files are in use
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        module: nn.Module = torch.jit.load(path, map_location=device)
    return module


def _build(source: str) -> nn.Module:
    try:
        function = load_object(source)
    except ImportError as error:
        raise DiscriminatorError(
            f"discriminator.trunk: {source} cannot be imported ({error}); it must be "
            f"module:function with the module on PYTHONPATH"
        ) from error
    module = function()
    if not isinstance(module, nn.Module):
        raise DiscriminatorError(
            f"discriminator.trunk: {source}() must return a torch.nn.Module, but returned "
            f"{type(module).__name__}"
        )
    return module
