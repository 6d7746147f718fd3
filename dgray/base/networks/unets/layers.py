r"""Layers of EDM's U-Nets, with EDM's names of weights.

They are written from their description in Karras et al. 2022 (arXiv 2206.00364), Appendix F.2; the
architectures are those of Song et al. 2021 (arXiv 2011.13456) and Dhariwal & Nichol 2021 (arXiv
2105.05233). All layers are twice differentiable. Weights are cast to the dtype of the input, so
that a network of float32 weights also runs in float16 or float64. Initial weights come from
torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgray.base.networks.unets.channels import MAX_GROUPS, MIN_CHANNELS_PER_GROUP, num_groups

InitMode = Literal["xavier_uniform", "kaiming_uniform", "kaiming_normal"]


@dataclass(frozen=True)
class Init:
    """Distribution of initial weights (Glorot & Bengio 2010; He et al. 2015), with factors.

    Attributes:
        mode: the distribution.
        weight: factor on weights.
        bias: factor on biases, drawn from the same distribution; 0: biases start at zero.
    """

    mode: InitMode
    weight: float = 1.0
    bias: float = 0.0

    def draw(self, shape: Sequence[int], fan_in: int, fan_out: int) -> Tensor:
        """Draw values of ``shape``, without a factor."""
        if self.mode == "xavier_uniform":
            return math.sqrt(6 / (fan_in + fan_out)) * (2 * torch.rand(*shape) - 1)
        if self.mode == "kaiming_uniform":
            return math.sqrt(3 / fan_in) * (2 * torch.rand(*shape) - 1)
        return math.sqrt(1 / fan_in) * torch.randn(*shape)


class Linear(nn.Module):
    """Linear layer, x -> W x + b on the last dimension."""

    bias: Tensor | None

    def __init__(self, fan_in: int, fan_out: int, init: Init, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features = fan_in
        self.weight = nn.Parameter(init.weight * init.draw((fan_out, fan_in), fan_in, fan_out))
        drawn = nn.Parameter(init.bias * init.draw((fan_out,), fan_in, fan_out)) if bias else None
        self.register_parameter("bias", drawn)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (..., fan_in) to shape (..., fan_out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.weight.to(x.dtype), bias)


class Conv2d(nn.Module):
    """Convolution that keeps the size of an image, with optional doubling or halving.

    Resampling convolves every channel with the outer product of a 1-D filter of unit sum (times 2
    in each direction when doubling, which inserts zeros).

    Args:
        in_channels: number of channels of the input.
        out_channels: number of channels of the output.
        kernel: size of the kernel, odd; 0: only resampling, without weights.
        init: initialisation of the weights.
        up: whether to double height and width, then convolve.
        down: whether to halve height and width, then convolve.
        resample_filter: weights of the 1-D filter, an even number of them.
        convolve_first: with ``down``: whether to convolve first, with padding for both steps.
    """

    weight: Tensor | None
    bias: Tensor | None
    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        init: Init,
        *,
        up: bool = False,
        down: bool = False,
        resample_filter: Sequence[float] = (1, 1),
        convolve_first: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.up, self.down, self.convolve_first = up, down, convolve_first
        fans = in_channels * kernel**2, out_channels * kernel**2
        weight = bias = None
        if kernel:
            shape = out_channels, in_channels, kernel, kernel
            weight = nn.Parameter(init.weight * init.draw(shape, *fans))
            bias = nn.Parameter(init.bias * init.draw((out_channels,), *fans))
        self.register_parameter("weight", weight)
        self.register_parameter("bias", bias)
        line = torch.as_tensor(resample_filter, dtype=torch.float32)
        plane = line.outer(line)[None, None] / line.sum() ** 2
        self.register_buffer("resample_filter", plane if up or down else None)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and resample, images of shape (N, in_channels, H, W)."""
        if self.up:
            x = self._double(x)
        if self.down and not self.convolve_first:
            x = self._halve(x, self._filter_margin)
        if self.weight is not None and self.bias is not None:
            margin = self.weight.shape[-1] // 2
            if self.convolve_first:
                margin += self._filter_margin
            x = functional.conv2d(x, self.weight.to(x.dtype), padding=margin)
            if self.convolve_first:
                x = self._halve(x, 0)
            x = x + self.bias.to(x.dtype)[:, None, None]
        return x

    @property
    def _filter_margin(self) -> int:
        return 0 if self.resample_filter is None else (self.resample_filter.shape[-1] - 1) // 2

    def _filter(self, x: Tensor) -> Tensor:
        assert self.resample_filter is not None
        return self.resample_filter.to(x.dtype).expand(x.shape[1], -1, -1, -1)

    def _double(self, x: Tensor) -> Tensor:
        return functional.conv_transpose2d(
            x, 4 * self._filter(x), groups=x.shape[1], stride=2, padding=self._filter_margin
        )

    def _halve(self, x: Tensor, margin: int) -> Tensor:
        return functional.conv2d(x, self._filter(x), groups=x.shape[1], stride=2, padding=margin)


class GroupNorm(nn.Module):
    """Group normalisation with at most 32 groups of at least 4 channels each.

    Raises:
        ValueError: the channels cannot be divided into whole groups.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.groups = num_groups(channels)
        if not self.groups:
            raise ValueError(
                f"channels must be divisible into min({MAX_GROUPS}, channels // "
                f"{MIN_CHANNELS_PER_GROUP}) groups, but there are {channels}; change "
                "model_channels or channel_mult"
            )
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise features of shape (N, channels, H, W)."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.group_norm(x, self.groups, weight, bias, self.eps)


class PositionalEmbedding(nn.Module):
    """Embedding by cosines, then sines, at frequencies that fall geometrically from 1.

    Args:
        channels: number of channels of the embedding, even.
        endpoint: whether the last frequency is 1 / max_positions (Song et al. 2021) or the one
            before it in the series (Dhariwal & Nichol 2021).
        max_positions: as in Vaswani et al. 2017.
    """

    def __init__(self, channels: int, *, endpoint: bool, max_positions: float = 10_000) -> None:
        super().__init__()
        self.channels, self.endpoint, self.max_positions = channels, endpoint, max_positions

    def forward(self, number: Tensor) -> Tensor:
        """Embed numbers of shape (N,) as vectors of shape (N, channels)."""
        half = self.channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=number.device)
        exponents = steps / (half - 1 if self.endpoint else half)
        frequencies = (1 / self.max_positions) ** exponents
        return _cosines_and_sines(number[:, None] * frequencies.to(number.dtype))


class FourierEmbedding(nn.Module):
    """Embedding by cosines, then sines, at random frequencies (Tancik et al. 2020)."""

    freqs: Tensor

    def __init__(self, channels: int, scale: float = 16) -> None:
        super().__init__()
        self.register_buffer("freqs", scale * torch.randn(channels // 2))

    def forward(self, number: Tensor) -> Tensor:
        """Embed numbers of shape (N,) as vectors of shape (N, channels)."""
        return _cosines_and_sines(number[:, None] * (2 * math.pi * self.freqs).to(number.dtype))


def _cosines_and_sines(angles: Tensor) -> Tensor:
    return torch.cat([angles.cos(), angles.sin()], 1)
