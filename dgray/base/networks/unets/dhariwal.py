r"""The U-Net of Dhariwal & Nichol 2021 (arXiv 2105.05233, "ADM") as in Karras et al. 2022.

Weights have the names of EDM's ImageNet-64 network (Karras et al. 2022, arXiv 2206.00364,
Table 7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgray.base.networks.unets.block import BlockStyle, UNetBlock
from dgray.base.networks.unets.layers import Conv2d, GroupNorm, Init, Linear, PositionalEmbedding
from dgray.base.networks.unets.plan import UNetPlan

EPS = 1e-5
CHANNELS_PER_HEAD = 64
INIT = Init("kaiming_uniform", weight=math.sqrt(1 / 3), bias=math.sqrt(1 / 3))
INIT_ZERO = Init("kaiming_uniform", weight=0)


class DhariwalUNet(nn.Module):
    """Raw network F(x; noise label, class label), to be preconditioned.

    Args:
        img_resolution: height and width, divisible by 2^(levels - 1).
        in_channels: number of channels of the input.
        out_channels: number of channels of the output.
        label_dim: number of classes; 0: unconditional.
        augment_dim: length of augmentation labels; 0: none.
        model_channels: channels at multiplier 1.
        channel_mult: multiplier of each level, the finest first.
        channel_mult_emb: multiplier of the embedding.
        num_blocks: residual blocks of a level.
        attn_resolutions: resolutions with self-attention, of 64 channels per head.
        dropout: probability of an activation to be dropped in training mode.
        label_dropout: probability of a class label to be dropped in training mode.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0,
    ) -> None:
        super().__init__()
        self.label_dropout = label_dropout
        width = model_channels * channel_mult_emb
        self._style = BlockStyle(
            emb_channels=width,
            init=INIT,
            init_zero=INIT_ZERO,
            init_attn=INIT,
            dropout=dropout,
            channels_per_head=CHANNELS_PER_HEAD,
            eps=EPS,
        )
        self.map_noise = PositionalEmbedding(model_channels, endpoint=False)
        self.map_augment = (
            Linear(augment_dim, model_channels, INIT_ZERO, bias=False) if augment_dim else None
        )
        self.map_layer0 = Linear(model_channels, width, INIT)
        self.map_layer1 = Linear(width, width, INIT)
        label_init = Init("kaiming_normal", weight=math.sqrt(label_dim))
        self.map_label = Linear(label_dim, width, label_init, bias=False) if label_dim else None
        plan = UNetPlan(
            levels=tuple(
                (img_resolution >> level, model_channels * multiplier)
                for level, multiplier in enumerate(channel_mult)
            ),
            num_blocks=num_blocks,
            attended=frozenset(attn_resolutions),
            style=self._style,
            attends_every_block=True,
        )
        channels = plan.levels[0][1]
        self.enc = plan.build_encoder(in_channels, channels)
        self.dec = plan.build_decoder(self.enc, out_channels)
        self.out_norm = GroupNorm(channels, EPS)
        self.out_conv = Conv2d(channels, out_channels, 3, INIT_ZERO)

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Return F, shape (N, out_channels, H, W).

        Args:
            x: shape (N, in_channels, H, W).
            noise_labels: shape (N,).
            class_labels: one-hot, shape (N, label_dim), zeros for no class; None: no classes.
            augment_labels: shape (N, augment_dim); None: images that were not augmented.
        """
        emb = self.embed(noise_labels, class_labels, augment_labels)
        return self.decode(self.encode(x, emb), emb)

    def embed(
        self,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the embedding of noise level and labels for the blocks, (N, emb_channels)."""
        emb = self.map_noise(noise_labels)
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        emb = self.map_layer1(functional.silu(self.map_layer0(emb)))
        if self.map_label is not None and class_labels is not None:
            if self.training and self.label_dropout:
                kept = torch.rand_like(class_labels[:, :1]) >= self.label_dropout
                class_labels = class_labels * kept
            emb = emb + self.map_label(class_labels)
        return functional.silu(emb)

    def encode(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """Return the features after every encoder layer, the finest first, the deepest last."""
        skips: list[Tensor] = []
        for layer in self.enc.values():
            x = layer(x, emb) if isinstance(layer, UNetBlock) else layer(x)
            skips.append(x)
        return skips

    def decode(self, skips: Sequence[Tensor], emb: Tensor) -> Tensor:
        """Return the output of the network, given the features that ``encode`` returned."""
        rest = list(skips)
        x = rest[-1]
        for name, layer in self.dec.items():
            if "block" in name:
                x = torch.cat([x, rest.pop()], 1)
            x = layer(x, emb)
        output: Tensor = self.out_conv(functional.silu(self.out_norm(x)))
        return output
