"""Checks of what code of other packages returns; a wrong shape could be broadcast unnoticed."""

from __future__ import annotations

import torch
from torch import Tensor

from dgray.errors import PartError


def check_returned(name: str, value: object, shape: tuple[int, ...]) -> None:
    """Check that a part returned finite floating-point numbers in a shape.

    Args:
        name: the part, as the subject of a message.
        value: what it returned.
        shape: shape that it must have.

    Raises:
        PartError: if it did not.
    """
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        actual = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise PartError(f"{name} must return a tensor of shape {shape}, but got {actual}")
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        raise PartError(f"{name} must return finite floating-point numbers, but does not")
