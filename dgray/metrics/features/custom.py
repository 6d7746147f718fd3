"""A user's own feature extractor, named in a study as ``module:function``.

The function takes images, uint8 (N, C, H, W) on a device, and returns a float tensor (N, F) on the
same one. It must not let one image change another's features (no batch statistics): this is
checked once, at loading, on random images.
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

from dgray.files import sha256_of
from dgray.metrics.features.extractor import FeatureSource, check_features, check_pixels

TOLERANCE = 1e-4  # relative to the largest feature: rounding of float32, with room


@dataclass(frozen=True, eq=False)
class CustomFeatures:
    """A ``FeatureExtractor`` around a user's function.

    Attributes:
        source: named ``fd_`` and the function's name; the hash is of the file that defines it.
        device: where it computes.
        function: the user's.
    """

    source: FeatureSource
    device: torch.device
    function: Callable[[Tensor], Any]

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Features, float32 (N, F), of images, uint8 (N, C, H, W) with 1 or 3 channels."""
        check_pixels(pixels)
        features = _call(self.function, pixels.to(self.device), self.source.name)
        check_features(features, self.source.name, (len(pixels), self.source.dimension))
        return features


def load_custom(
    reference: str, shape: tuple[int, int, int], device: torch.device | str = "cpu"
) -> CustomFeatures:
    """The extractor that ``module:function`` names, tried on two random images.

    Args:
        reference: an importable module and the name of a function in it.
        shape: (C, H, W) of the images it will see.
        device: where it computes.

    Raises:
        ValueError: the reference is not of this form, names nothing that can be called, or what it
            names does not return finite features (N, F) that depend on their own image alone.
        ModuleNotFoundError: there is no such module.
    """
    function = _resolve(reference)
    name = f"fd_{reference.rpartition(':')[2]}"
    device = torch.device(device)
    generator = torch.Generator().manual_seed(0)
    trial = torch.randint(256, (2, *shape), generator=generator, dtype=torch.uint8).to(device)
    check_pixels(trial)
    with torch.no_grad():
        both, first = _call(function, trial, name), _call(function, trial[:1], name)
    check_features(both, name, (2, both.shape[1]))
    check_features(first, name, (1, both.shape[1]))
    difference = float((both[:1] - first).abs().max())
    if difference > TOLERANCE * float(both.abs().max()):
        raise ValueError(
            f"{name} must give an image the same features whatever images come with it, but the "
            f"first of two images changes by {difference:.3g} when it comes alone; is the network "
            "in eval mode?"
        )
    source = FeatureSource(name, both.shape[1], "the function's own", _hash(function))
    return CustomFeatures(source, device, function)


def _resolve(reference: str) -> Callable[[Tensor], Any]:
    module_name, separator, name = reference.partition(":")
    if not separator or not module_name or not name.isidentifier():
        raise ValueError(
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
        raise ValueError(
            f"the module {module_name} must have a function {name!r} for the feature extractor "
            f"{reference!r}, but has {'none' if function is None else type(function).__name__}"
        )
    return cast(Callable[[Tensor], Any], function)


def _call(function: Callable[[Tensor], Any], pixels: Tensor, name: str) -> Tensor:
    """What the function returns, in float32, if it is a matrix with a row for each image."""
    features = function(pixels)
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"{name} must return a torch tensor of floats, but returned {kind}")
    if features.ndim != 2 or len(features) != len(pixels) or features.shape[1] == 0:
        raise ValueError(
            f"{name} must return features of shape (N, F), F > 0, here N = {len(pixels)}, but "
            f"returned shape {tuple(features.shape)}"
        )
    return features.float()


def _hash(function: Callable[[Tensor], Any]) -> str:
    """SHA-256 of the file that defines the function; empty where no file does."""
    defined = function if inspect.isroutine(function) else type(function)
    try:
        return sha256_of(Path(inspect.getfile(defined)))
    except TypeError:  # built in
        return ""
