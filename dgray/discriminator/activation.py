"""Smooth activations with two derivatives: guidance is a gradient, likelihood a Laplacian."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

Derivatives = Callable[[Tensor, int], tuple[Tensor, ...]]
"""(h, order) -> (phi(h), phi'(h), ...) up to that order, 0 to 2, each of the shape of h."""


def silu(h: Tensor, order: int) -> tuple[Tensor, ...]:
    """The function h sigmoid(h)."""
    s = torch.sigmoid(h)
    value = h * s
    if order == 0:
        return (value,)
    first = torch.addcmul(s, value, 1 - s)  # s + h s (1 - s)
    if order == 1:
        return value, first
    # second = s (1 - s) (2 + h - 2 value), written to reuse what is there
    return value, first, (s - s * s).mul_(2 + h - 2 * value)


def softplus_(h: Tensor, order: int) -> tuple[Tensor, ...]:
    """log(1 + exp h)."""
    s = torch.sigmoid(h)
    return (softplus(h), s, s * (1 - s))[: order + 1]


def tanh(h: Tensor, order: int) -> tuple[Tensor, ...]:
    """Hyperbolic tangent."""
    t = torch.tanh(h)
    first = 1 - t**2
    return (t, first, -2 * t * first)[: order + 1]


ACTIVATIONS: Mapping[str, Derivatives] = {"silu": silu, "softplus": softplus_, "tanh": tanh}
