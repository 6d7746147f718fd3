"""A denoiser of N(0, I), and samples of N(shift, I)."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 0.5


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """Denoise N(0, I), in float32."""
    return x / (1 + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2)


def points(count: int, seed: int) -> Tensor:
    return SHIFT + torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
