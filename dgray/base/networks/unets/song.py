r"""The U-Nets of Song et al. 2021 (arXiv 2011.13456) as reimplemented by Karras et al. 2022.

DDPM++ is embedding ``positional``, encoder and decoder ``standard``, filter (1, 1); NCSN++ is
embedding ``fourier``, encoder ``residual``, noise multiplier 2, filter (1, 3, 3, 1) (Karras et al.
2022, arXiv 2206.00364, Table 7). Weights have the names of EDM's published networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgray.base.networks.unets.block import BlockStyle
from dgray.base.networks.unets.layers import FourierEmbedding, Init, Linear, PositionalEmbedding
from dgray.base.networks.unets.plan import Decoder, Encoder, UNetPlan

EPS = 1e-6
INIT = Init("xavier_uniform")
INIT_ZERO = Init("xavier_uniform", weight=1e-5)
INIT_ATTENTION = Init("xavier_uniform", weight=math.sqrt(0.2))

Embedding = Literal["positional", "fourier"]


class SongUNet(nn.Module):
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
        attn_resolutions: resolutions with self-attention.
        dropout: probability of an activation to be dropped in training mode.
        label_dropout: probability of a class label to be dropped in training mode.
        embedding_type: type of embedding of the noise label.
        channel_mult_noise: multiplier of the noise embedding.
        encoder_type, decoder_type: see ``UNetPlan``.
        resample_filter: 1-D weights of doubling and halving.

    Raises:
        ValueError: a type has another value than those of its annotation.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0,
        embedding_type: Embedding = "positional",
        channel_mult_noise: int = 1,
        encoder_type: Encoder = "standard",
        decoder_type: Decoder = "standard",
        resample_filter: Sequence[float] = (1, 1),
    ) -> None:
        super().__init__()
        _check("embedding_type", embedding_type, ("positional", "fourier"))
        _check("encoder_type", encoder_type, ("standard", "skip", "residual"))
        _check("decoder_type", decoder_type, ("standard", "skip"))
        self.label_dropout = label_dropout
        self._style = BlockStyle(
            emb_channels=model_channels * channel_mult_emb,
            init=INIT,
            init_zero=INIT_ZERO,
            init_attn=INIT_ATTENTION,
            dropout=dropout,
            skip_scale=math.sqrt(0.5),
            eps=EPS,
            resample_filter=tuple(resample_filter),
            resample_proj=True,
            adaptive_scale=False,
        )
        self._add_mapping(
            model_channels * channel_mult_noise, label_dim, augment_dim, embedding_type
        )
        plan = UNetPlan(
            levels=tuple(
                (img_resolution >> level, model_channels * multiplier)
                for level, multiplier in enumerate(channel_mult)
            ),
            num_blocks=num_blocks,
            attended=frozenset(attn_resolutions),
            encoder=encoder_type,
            decoder=decoder_type,
            style=self._style,
        )
        self.enc = plan.build_encoder(in_channels, model_channels)
        self.dec = plan.build_decoder(self.enc, out_channels)

    def _add_mapping(
        self, noise_channels: int, label_dim: int, augment_dim: int, embedding_type: Embedding
    ) -> None:
        self.map_noise: nn.Module = (
            PositionalEmbedding(noise_channels, endpoint=True)
            if embedding_type == "positional"
            else FourierEmbedding(noise_channels)
        )
        self.map_label = Linear(label_dim, noise_channels, INIT) if label_dim else None
        self.map_augment = (
            Linear(augment_dim, noise_channels, INIT, bias=False) if augment_dim else None
        )
        self.map_layer0 = Linear(noise_channels, self._style.emb_channels, INIT)
        self.map_layer1 = Linear(self._style.emb_channels, self._style.emb_channels, INIT)

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
        cosines, sines = self.map_noise(noise_labels).chunk(2, dim=1)
        emb = torch.cat([sines, cosines], 1)  # the order of Song et al.'s weights
        if self.map_label is not None and class_labels is not None:
            if self.training and self.label_dropout:
                kept = torch.rand_like(class_labels[:, :1]) >= self.label_dropout
                class_labels = class_labels * kept
            # one-hot vectors scaled to unit variance
            emb = emb + self.map_label(class_labels * math.sqrt(self.map_label.in_features))
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels)
        hidden = functional.silu(self.map_layer0(emb))
        return functional.silu(self.map_layer1(hidden))

    def encode(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """Return the features after every encoder layer, the finest first, the deepest last."""
        skips: list[Tensor] = []
        auxiliary = x
        for name, layer in self.enc.items():
            match name.partition("_")[2]:
                case "aux_down":
                    auxiliary = layer(auxiliary)
                case "aux_skip":
                    skips[-1] = x = x + layer(auxiliary)
                case "aux_residual":
                    skips[-1] = x = auxiliary = (x + layer(auxiliary)) / math.sqrt(2)
                case "conv":
                    x = layer(x)
                    skips.append(x)
                case _:
                    x = layer(x, emb)
                    skips.append(x)
        return skips

    def decode(self, skips: Sequence[Tensor], emb: Tensor) -> Tensor:
        """Return the output of the network, given the features that ``encode`` returned."""
        rest = list(skips)
        x = rest[-1]
        output: Tensor | None = None
        normalised = x
        for name, layer in self.dec.items():
            role = name.partition("_")[2]
            if role == "aux_up":
                output = layer(output)
            elif role == "aux_norm":
                normalised = layer(x)
            elif role == "aux_conv":
                term = layer(functional.silu(normalised))
                output = term if output is None else output + term
            else:
                if role.startswith("block"):
                    x = torch.cat([x, rest.pop()], 1)
                x = layer(x, emb)
        assert output is not None  # the finest level has an output
        return output


def _check(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
