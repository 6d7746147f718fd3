"""Feature extractor of a user, given in a study as ``module:function``.

The function takes images, uint8 (N, C, H, W) on a device, and returns a float tensor (N, F) on the
same device. The features of an image must not depend on the other images (no batch statistics),
which is checked at loading on random images.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dgray.errors import FeaturesError
from dgray.files import sha256_of
from dgray.metrics.features.extractor import (
    Features,
    FeatureSource,
    Pixels,
    check_features,
    check_pixels,
)

TOLERANCE = 1e-4  # relative to the largest feature; well above the rounding of float32


@dataclass(frozen=True, eq=False)
class CustomFeatures:
    """Feature extractor built from a user's function.

    Attributes:
        source: ``fd_`` and the name of the function; its hash is that of the file defining it.
        device: device of the images.
        function: the function.
    """

    source: FeatureSource
    device: torch.device
    function: Callable[[Tensor], Any]

    @torch.no_grad()
    def __call__(self, pixels: Pixels) -> Features:
        """Return the features of images with 1 or 3 channels."""
        check_pixels(pixels)
        features = _call(self.function, pixels.to(self.device), self.source.name)
        check_features(features, self.source.name, (len(pixels), self.source.dimension))
        return features


def load_custom(
    reference: str, shape: tuple[int, int, int], device: torch.device | str = "cpu"
) -> CustomFeatures:
    """Load the extractor ``module:function`` and check it on two random images.

    Args:
        reference: an importable module and the name of a function in it.
        shape: (C, H, W) of the images.
        device: device of the images.

    Raises:
        FeaturesError: if the reference has another form or does not name a function, or the
            function does not return finite features (N, F) that depend on their own image alone.
        ModuleNotFoundError: if there is no such module.
    """
    function = _resolve(reference)
    name = f"fd_{reference.rpartition(':')[2]}"
    device = torch.device(device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, *shape), generator=generator, dtype=torch.uint8).to(device)
    check_pixels(images)
    with torch.no_grad():
        both, first = _call(function, images, name), _call(function, images[:1], name)
    check_features(both, name, (2, both.shape[1]))
    check_features(first, name, (1, both.shape[1]))
    difference = float((both[:1] - first).abs().max())
    if difference > TOLERANCE * float(both.abs().max()):
        raise FeaturesError(
            f"{name} must give an image the same features in any batch, but those of the first of "
            f"two images change by {difference:.3g} when it is alone; put the network in eval mode"
        )
    source = FeatureSource(name, both.shape[1], "the function's own", _hash(function))
    return CustomFeatures(source, device, function)


def _resolve(reference: str) -> Callable[[Tensor], Any]:
    module_name, separator, name = reference.partition(":")
    if not separator or not module_name or not name.isidentifier():
        raise FeaturesError(
            f"a feature extractor must be given as module:function, but got {reference!r}"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the feature extractor {reference!r} cannot be imported: {error}; is its folder on "
            "PYTHONPATH?"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise FeaturesError(
            f"the module {module_name} must have a function {name!r} for the feature extractor "
            f"{reference!r}, but has {'none' if function is None else type(function).__name__}"
        )
    return cast(Callable[[Tensor], Any], function)


def _call(function: Callable[[Tensor], Any], pixels: Tensor, name: str) -> Tensor:
    """Call the function; return its features in float32 if they have one row per image."""
    features = function(pixels)
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise FeaturesError(f"{name} must return a torch tensor of floats, but returned {kind}")
    if features.ndim != 2 or len(features) != len(pixels) or features.shape[1] == 0:
        raise FeaturesError(
            f"{name} must return features of shape (N, F), F > 0, here N = {len(pixels)}, but "
            f"returned shape {tuple(features.shape)}"
        )
    return features.float()


def _hash(function: Callable[[Tensor], Any]) -> str:
    """Return the SHA-256 of the file that defines the function; empty if there is none."""
    defined = function if inspect.isroutine(function) else type(function)
    try:
        return sha256_of(Path(inspect.getfile(defined)))
    except TypeError:  # built in
        return ""
