"""Encoder and decoder of the network in ``song.py``, level by level, with EDM's names.

A layer is named RESOLUTIONxRESOLUTION_ROLE; the network's forward pass goes by the role. Knows
torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from dgray.base.networks.unets.block import BlockStyle, UNetBlock
from dgray.base.networks.unets.layers import Conv2d, GroupNorm, Init

EPS = 1e-6
INIT = Init("xavier_uniform")
INIT_ZERO = Init("xavier_uniform", weight=1e-5)
INIT_ATTENTION = Init("xavier_uniform", weight=math.sqrt(0.2))

Encoder = Literal["standard", "skip", "residual"]
Decoder = Literal["standard", "skip"]


@dataclass(frozen=True)
class SongPlan:
    """What the two halves of the network share.

    Attributes:
        levels: (resolution, channels) of each, the finest first.
        num_blocks: residual blocks of an encoder level; a decoder level has one more.
        attended: resolutions with self-attention.
        encoder: how the downsampled input enters.
        decoder: ``skip``: the output is a sum over levels.
        style: of all blocks.
    """

    levels: tuple[tuple[int, int], ...]
    num_blocks: int
    attended: frozenset[int]
    encoder: Encoder
    decoder: Decoder
    style: BlockStyle

    def build_encoder(self, in_channels: int, channels: int) -> nn.ModuleDict:
        """The encoder; ``channels``: of its first convolution."""
        layers = nn.ModuleDict()
        auxiliary = in_channels
        for level, (resolution, width) in enumerate(self.levels):
            name = f"{resolution}x{resolution}"
            if level == 0:
                layers[f"{name}_conv"] = Conv2d(in_channels, channels, 3, INIT)
            else:
                layers[f"{name}_down"] = UNetBlock(channels, channels, self.style, down=True)
                self._add_auxiliary_input(layers, name, auxiliary, channels)
                auxiliary = channels if self.encoder == "residual" else auxiliary
            for index in range(self.num_blocks):
                layers[f"{name}_block{index}"] = UNetBlock(
                    channels, width, self.style, attention=resolution in self.attended
                )
                channels = width
        return layers

    def _add_auxiliary_input(
        self, layers: nn.ModuleDict, name: str, auxiliary: int, channels: int
    ) -> None:
        resample = self.style.resample_filter
        if self.encoder == "skip":
            layers[f"{name}_aux_down"] = Conv2d(
                auxiliary, auxiliary, 0, INIT, down=True, resample_filter=resample
            )
            layers[f"{name}_aux_skip"] = Conv2d(auxiliary, channels, 1, INIT)
        elif self.encoder == "residual":
            layers[f"{name}_aux_residual"] = Conv2d(
                auxiliary,
                channels,
                3,
                INIT,
                down=True,
                resample_filter=resample,
                convolve_first=True,
            )

    def build_decoder(self, encoder: nn.ModuleDict, out_channels: int) -> nn.ModuleDict:
        """The decoder, whose blocks also see what each layer of ``encoder`` returned."""
        layers = nn.ModuleDict()
        skips = [
            int(layer.out_channels)
            for name, layer in encoder.items()
            if "aux" not in name and isinstance(layer, (Conv2d, UNetBlock))
        ]
        channels = skips[-1]
        for level, (resolution, width) in reversed(list(enumerate(self.levels))):
            name, is_coarsest = f"{resolution}x{resolution}", level == len(self.levels) - 1
            if is_coarsest:
                layers[f"{name}_in0"] = UNetBlock(channels, channels, self.style, attention=True)
                layers[f"{name}_in1"] = UNetBlock(channels, channels, self.style)
            else:
                layers[f"{name}_up"] = UNetBlock(channels, channels, self.style, up=True)
            for index in range(self.num_blocks + 1):
                attention = index == self.num_blocks and resolution in self.attended
                layers[f"{name}_block{index}"] = UNetBlock(
                    channels + skips.pop(), width, self.style, attention=attention
                )
                channels = width
            if self.decoder == "skip" and not is_coarsest:
                layers[f"{name}_aux_up"] = Conv2d(
                    out_channels,
                    out_channels,
                    0,
                    INIT,
                    up=True,
                    resample_filter=self.style.resample_filter,
                )
            if self.decoder == "skip" or level == 0:
                layers[f"{name}_aux_norm"] = GroupNorm(channels, EPS)
                layers[f"{name}_aux_conv"] = Conv2d(channels, out_channels, 3, INIT_ZERO)
        return layers
