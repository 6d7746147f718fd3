"""The networks of a trained base, from a description that is stored beside their weights.

Knows the networks and how images are flattened; not how they are trained, nor the study.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.mlp_denoiser import ClassDenoiser, MlpDenoiser, one_hot
from dgray.base.networks.preconditioning import EDMPrecond, Preconditioned
from dgray.base.networks.unets.song import SongUNet
from dgray.diffusion.denoiser import AutogradDenoiser, Denoiser

NetworkName = Literal["mlp", "unet"]
Network = MlpDenoiser | Preconditioned
MLP_MAX_VALUES = 64  # of an image: 8 x 8 grey digits; beyond, a perceptron learns no strokes
COARSEST = 4  # pixels of a U-Net's coarsest level, at least
ATTENTION_RESOLUTION = 16  # EDM, Table 7


@dataclass(frozen=True)
class BaseArchitecture:
    """All that the weights of a trained base need besides themselves.

    Attributes:
        network: ``mlp``, or ``unet``: the DDPM++ U-Net (Song et al. 2021, arXiv 2011.13456).
        shape: (d,) of points, (C, H, W) of images.
        width: hidden units of a layer; channels of the finest level (twice as many on others).
        depth: hidden layers; residual blocks of a level.
        sigma_data: scale of the data, > 0.
        num_classes: 0: unconditional.
        dropout: share of activations dropped in training, in [0, 1).
        attention: self-attention at 16 x 16 too; on the coarsest level there always is.

    Raises:
        ValueError: a U-Net for points, or for images that are not square.
    """

    network: NetworkName
    shape: tuple[int, ...]
    width: int
    depth: int
    sigma_data: float
    num_classes: int = 0
    dropout: float = 0.0
    attention: bool = False

    def __post_init__(self) -> None:
        if self.network == "unet" and (len(self.shape) != 3 or self.shape[1] != self.shape[2]):
            raise ValueError(
                f"a U-Net needs square images (C, H, W), but the data has shape {self.shape}; "
                "set base.network: mlp"
            )

    @property
    def dimension(self) -> int:
        """d: numbers of a sample."""
        return math.prod(self.shape)

    def to_json(self) -> str:
        """The description as text."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> BaseArchitecture:
        """Undoes ``to_json``."""
        fields = json.loads(text)
        return BaseArchitecture(**{**fields, "shape": tuple(fields["shape"])})


def default_network(shape: tuple[int, ...]) -> NetworkName:
    """A perceptron for points and the smallest images, else a U-Net."""
    is_large = len(shape) == 3 and math.prod(shape) > MLP_MAX_VALUES
    return "unet" if is_large else "mlp"


def channel_multipliers(resolution: int) -> tuple[int, ...]:
    """1 on the finest level, 2 on each that halves it, down to 4 pixels but not below.

    EDM's networks of 32 and 64 pixels end at 8. These are small, and the coarse levels, where an
    image becomes a whole, are the cheap ones.
    """
    halvings = 0
    while resolution % 2 == 0 and resolution // 2 >= COARSEST:
        resolution //= 2
        halvings += 1
    return (1, *[2] * halvings)


def build_network(architecture: BaseArchitecture) -> Network:
    """The network with initial weights; seed the global generator for reproducible ones."""
    it = architecture
    if it.network == "mlp":
        return MlpDenoiser(
            it.dimension,
            it.width,
            it.depth,
            it.sigma_data,
            num_classes=it.num_classes,
            dropout=it.dropout,
        )
    channels, resolution, _ = it.shape
    unet = SongUNet(
        img_resolution=resolution,
        in_channels=channels,
        out_channels=channels,
        label_dim=it.num_classes,
        model_channels=it.width,
        channel_mult=channel_multipliers(resolution),
        num_blocks=it.depth,
        attn_resolutions=(ATTENTION_RESOLUTION,) if it.attention else (),
        dropout=it.dropout,
    )
    return EDMPrecond(unet, label_dim=it.num_classes, sigma_data=it.sigma_data)


def denoise(
    network: Network,
    architecture: BaseArchitecture,
    x: Tensor,
    sigma: Tensor,
    labels: Tensor | None,
) -> Tensor:
    """D(x; sigma) with the graph of the weights; x (N, d), sigma (N,).

    Labels are int64 (N,), -1 for no class; None: a network without classes.
    """
    if isinstance(network, MlpDenoiser):
        denoised: Tensor = network(x, sigma, labels)
        return denoised
    classes = None if labels is None else one_hot(labels, architecture.num_classes)
    images = network(x.unflatten(-1, architecture.shape), sigma, classes)
    return torch.flatten(images, 1)


def as_denoiser(network: Network, architecture: BaseArchitecture) -> Denoiser:
    """A network whose weights are fixed, as samplers want it."""
    network.eval().requires_grad_(False)
    if isinstance(network, MlpDenoiser):
        return ClassDenoiser(network) if architecture.num_classes else AutogradDenoiser(network)
    channels, height, width = architecture.shape
    return NetworkDenoiser(network, (channels, height, width), architecture.num_classes)
