"""Encoder and decoder of EDM's U-Nets, level by level, with EDM's names of layers.

A layer is named RESOLUTIONxRESOLUTION_ROLE; the forward pass of a network goes by the role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from dgray.base.networks.unets.block import BlockStyle, UNetBlock
from dgray.base.networks.unets.layers import Conv2d, GroupNorm

Encoder = Literal["standard", "skip", "residual"]
Decoder = Literal["standard", "skip"]


@dataclass(frozen=True)
class UNetPlan:
    """Levels of a U-Net, from which its encoder and decoder are built.

    Attributes:
        levels: (resolution, channels) of each level, the finest first.
        num_blocks: residual blocks of an encoder level; a decoder level has one more.
        attended: resolutions with self-attention.
        style: style of all blocks.
        encoder: how the downsampled input enters the coarser levels; ``standard``: it does not.
        decoder: ``skip``: the output is a sum over levels; ``standard``: it is that of the finest
            level; None: the decoder ends with features.
        attends_every_block: whether all blocks of a decoder level are attended, or the last one.
    """

    levels: tuple[tuple[int, int], ...]
    num_blocks: int
    attended: frozenset[int]
    style: BlockStyle
    encoder: Encoder = "standard"
    decoder: Decoder | None = None
    attends_every_block: bool = False

    def build_encoder(self, in_channels: int, channels: int) -> nn.ModuleDict:
        """Build the encoder.

        Args:
            in_channels: number of channels of the images.
            channels: number of output channels of the first convolution.
        """
        layers = nn.ModuleDict()
        auxiliary = in_channels
        for level, (resolution, width) in enumerate(self.levels):
            name = f"{resolution}x{resolution}"
            if level == 0:
                layers[f"{name}_conv"] = Conv2d(in_channels, channels, 3, self.style.init)
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
                auxiliary, auxiliary, 0, self.style.init, down=True, resample_filter=resample
            )
            layers[f"{name}_aux_skip"] = Conv2d(auxiliary, channels, 1, self.style.init)
        elif self.encoder == "residual":
            layers[f"{name}_aux_residual"] = Conv2d(
                auxiliary,
                channels,
                3,
                self.style.init,
                down=True,
                resample_filter=resample,
                convolve_first=True,
            )

    def build_decoder(self, encoder: nn.ModuleDict, out_channels: int) -> nn.ModuleDict:
        """Build the decoder, whose blocks also take the outputs of the layers of ``encoder``."""
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
                is_attended = self.attends_every_block or index == self.num_blocks
                attention = is_attended and resolution in self.attended
                layers[f"{name}_block{index}"] = UNetBlock(
                    channels + skips.pop(), width, self.style, attention=attention
                )
                channels = width
            if self.decoder == "skip" and not is_coarsest:
                layers[f"{name}_aux_up"] = Conv2d(
                    out_channels,
                    out_channels,
                    0,
                    self.style.init,
                    up=True,
                    resample_filter=self.style.resample_filter,
                )
            if self.decoder == "skip" or (self.decoder == "standard" and level == 0):
                layers[f"{name}_aux_norm"] = GroupNorm(channels, self.style.eps)
                layers[f"{name}_aux_conv"] = Conv2d(
                    channels, out_channels, 3, self.style.init_zero
                )
        return layers
