"""Networks that dgray trains as a base, and the description stored with their weights."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.mlp_denoiser import ClassDenoiser, MlpDenoiser, one_hot
from dgray.base.networks.preconditioning import EDMPrecond, Preconditioned
from dgray.base.networks.unets.channels import channel_multipliers
from dgray.base.networks.unets.song import SongUNet
from dgray.catalogue import NETWORKS, NetworkName
from dgray.diffusion.denoiser import AutogradDenoiser, Denoiser

Network = MlpDenoiser | Preconditioned
ATTENTION_RESOLUTION = 16  # Karras et al. 2022, Table 7


@dataclass(frozen=True)
class BaseArchitecture:
    """Description of a network from which it is built.

    Attributes:
        network: ``mlp``, or ``unet``: the DDPM++ U-Net (Song et al. 2021, arXiv 2011.13456).
        shape: (d,) of points, (C, H, W) of images.
        width: units of a hidden layer; channels of the finest level (twice as many on others).
        depth: number of hidden layers; residual blocks of a level.
        sigma_data: scale of the data, > 0.
        num_classes: 0: unconditional.
        dropout: probability of an activation to be dropped in training, in [0, 1).
        attention: whether the 16 x 16 level has self-attention; the coarsest always has.

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
        if self.is_convolutional and (len(self.shape) != 3 or self.shape[1] != self.shape[2]):
            raise ValueError(
                f"a U-Net needs square images (C, H, W), but the data has shape {self.shape}; "
                "set base.network: mlp"
            )

    @property
    def is_convolutional(self) -> bool:
        """True if the network reads images, (C, H, W); otherwise it reads vectors."""
        return NETWORKS[self.network].is_convolutional

    @property
    def dimension(self) -> int:
        """Dimension d of a sample."""
        return math.prod(self.shape)

    def to_json(self) -> str:
        """Return the description as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> BaseArchitecture:
        """Read the description that ``to_json`` returned."""
        fields = json.loads(text)
        return BaseArchitecture(**{**fields, "shape": tuple(fields["shape"])})


def build_network(architecture: BaseArchitecture) -> Network:
    """Build the network; its initial weights come from torch's global generator."""
    if not architecture.is_convolutional:
        return MlpDenoiser(
            architecture.dimension,
            architecture.width,
            architecture.depth,
            architecture.sigma_data,
            num_classes=architecture.num_classes,
            dropout=architecture.dropout,
        )
    channels, resolution, _ = architecture.shape
    unet = SongUNet(
        img_resolution=resolution,
        in_channels=channels,
        out_channels=channels,
        label_dim=architecture.num_classes,
        model_channels=architecture.width,
        channel_mult=channel_multipliers(resolution),
        num_blocks=architecture.depth,
        attn_resolutions=(ATTENTION_RESOLUTION,) if architecture.attention else (),
        dropout=architecture.dropout,
    )
    return EDMPrecond(unet, label_dim=architecture.num_classes, sigma_data=architecture.sigma_data)


def denoise(
    network: Network,
    architecture: BaseArchitecture,
    x: Tensor,
    sigma: Tensor,
    labels: Tensor | None,
) -> Tensor:
    """Return D(x; sigma), shape (N, d), with the graph of the weights.

    Args:
        network: module built from the architecture.
        architecture: its description.
        x: shape (N, d).
        sigma: shape (N,), > 0.
        labels: classes, int64, shape (N,), -1 for no class; None: an unconditional network.
    """
    if isinstance(network, MlpDenoiser):
        denoised: Tensor = network(x, sigma, labels)
        return denoised
    classes = None if labels is None else one_hot(labels, architecture.num_classes)
    images = network(x.unflatten(-1, architecture.shape), sigma, classes)
    return torch.flatten(images, 1)


def as_denoiser(network: Network, architecture: BaseArchitecture) -> Denoiser:
    """Freeze a network and return it as a denoiser."""
    network.eval().requires_grad_(False)
    if isinstance(network, MlpDenoiser):
        return ClassDenoiser(network) if architecture.num_classes else AutogradDenoiser(network)
    channels, height, width = architecture.shape
    return NetworkDenoiser(network, (channels, height, width), architecture.num_classes)
