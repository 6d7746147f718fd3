"""Valid and invalid extractors, named as ``module:function`` by tests."""

from __future__ import annotations

import torch
from torch import Tensor

NUMBER = 3


def means(pixels: Tensor) -> Tensor:
    """Return the mean and the maximum of every channel."""
    x = pixels.double() / 255
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def integers(pixels: Tensor) -> Tensor:
    return pixels.flatten(1)


def an_array(pixels: Tensor) -> object:
    return pixels.float().flatten(1).numpy()


def one_vector(pixels: Tensor) -> Tensor:
    return pixels.float().flatten()


def maps(pixels: Tensor) -> Tensor:
    return pixels.float()


def infinite(pixels: Tensor) -> Tensor:
    return 1 / (pixels.float().flatten(1)[:, :2] * 0)


def normalised_over_the_batch(pixels: Tensor) -> Tensor:
    x = pixels.float().mean((2, 3))
    return x - x.mean(0)


def nan_when_dark(pixels: Tensor) -> Tensor:
    x = pixels.float().mean((2, 3))
    return torch.log(x)
