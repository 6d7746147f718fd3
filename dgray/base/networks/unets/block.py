"""The residual block of EDM's U-Nets, with optional resampling and self-attention.

See Karras et al. 2022 (arXiv 2206.00364), Appendix F.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgray.base.networks.unets.layers import Conv2d, GroupNorm, Init, Linear


@dataclass(frozen=True)
class BlockStyle:
    """Settings that all blocks of an architecture share.

    Attributes:
        emb_channels: width of the embedding of noise level and labels.
        init, init_zero, init_attn: initialisation of most layers, of those that start near zero,
            and of qkv.
        dropout: probability, in [0, 1).
        channels_per_head: number of channels per head of self-attention; None: one head.
        skip_scale: factor on every sum of a branch and its skip connection.
        eps: epsilon of group normalisation.
        resample_filter: 1-D weights of doubling and halving.
        resample_proj: whether a resampling block has a 1x1 convolution on its skip connection
            even if the number of channels stays.
        adaptive_scale: whether the embedding scales and shifts after the second normalisation;
            else it only shifts, before it.
    """

    emb_channels: int
    init: Init
    init_zero: Init
    init_attn: Init
    dropout: float
    channels_per_head: int | None = None
    skip_scale: float = 1.0
    eps: float = 1e-5
    resample_filter: tuple[float, ...] = (1, 1)
    resample_proj: bool = False
    adaptive_scale: bool = True


class UNetBlock(nn.Module):
    """Residual block of two 3x3 convolutions with the embedding between them."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: BlockStyle,
        *,
        up: bool = False,
        down: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.style = in_channels, out_channels, style
        init, resample = style.init, tuple(style.resample_filter)
        self.norm0 = GroupNorm(in_channels, style.eps)
        self.conv0 = Conv2d(
            in_channels, out_channels, 3, init, up=up, down=down, resample_filter=resample
        )
        parts = 2 if style.adaptive_scale else 1
        self.affine = Linear(style.emb_channels, parts * out_channels, init)
        self.norm1 = GroupNorm(out_channels, style.eps)
        self.conv1 = Conv2d(out_channels, out_channels, 3, style.init_zero)
        self.skip: Conv2d | None = None
        if in_channels != out_channels or up or down:
            kernel = 1 if style.resample_proj or in_channels != out_channels else 0
            self.skip = Conv2d(
                in_channels, out_channels, kernel, init, up=up, down=down, resample_filter=resample
            )
        self.num_heads = 0
        if attention:
            per_head = style.channels_per_head
            self.num_heads = 1 if per_head is None else out_channels // per_head
        if self.num_heads:
            self.norm2 = GroupNorm(out_channels, style.eps)
            self.qkv = Conv2d(out_channels, 3 * out_channels, 1, style.init_attn)
            self.proj = Conv2d(out_channels, out_channels, 1, style.init_zero)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return features (N, out_channels, H, W) of x (N, in_channels, H, W) and emb (N, C)."""
        skipped = x if self.skip is None else self.skip(x)
        x = self.conv0(functional.silu(self.norm0(x)))
        modulation = self.affine(emb)[:, :, None, None].to(x.dtype)
        if self.style.adaptive_scale:
            scale, shift = modulation.chunk(2, dim=1)
            x = functional.silu(shift + (1 + scale) * self.norm1(x))
        else:
            x = functional.silu(self.norm1(x + modulation))
        x = self.conv1(functional.dropout(x, self.style.dropout, self.training))
        x = (skipped + x) * self.style.skip_scale
        if self.num_heads:
            x = (x + self._attend(x)) * self.style.skip_scale
        return x

    def _attend(self, x: Tensor) -> Tensor:
        """Apply self-attention over pixels; PyTorch's fused version has no second derivative.

        The channels of ``qkv`` are (head, channel, q or k or v): q, k and v alternate.
        """
        n, channels, height, width = x.shape
        split = self.qkv(self.norm2(x)).reshape(
            n * self.num_heads, channels // self.num_heads, 3, height * width
        )
        q, k, v = split.unbind(2)
        wide = torch.promote_types(x.dtype, torch.float32)  # half precision overflows here
        logits = q.to(wide).mT @ (k.to(wide) / math.sqrt(k.shape[1]))
        weights = logits.softmax(-1).to(x.dtype)
        attended: Tensor = self.proj((v @ weights.mT).reshape(x.shape))
        return attended
