r"""Correction by a free vector field, the residual score.

D_w(x; sigma) = D(x; sigma) + w(sigma) sigma^2 r(x; sigma), with a network r that need not be the
gradient of anything. It is trained by the loss of the KL objective (Verine et al. 2025, arXiv
2503.16117) with r in place of grad d,

    E |n + sigma s(x) + sigma r(x)|^2,

denoising score matching (Vincent 2011, Neural Computation 23(7)) of the corrected score, whose
minimum is r = grad log p_data - s. No derivative in x is taken in training. Against guidance by
the KL objective it shows what the constraint to gradients costs or gains; so the network is that
of the discriminator but for its d outputs, and its scale that of a gradient: r = c_in F(c_in x;
sigma) with c_in = 1 / sqrt(sigma^2 + sigma_data^2). Starts at r = 0. (Ours.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from dgray.base.fit_network import BaseArchitecture, build_network
from dgray.base.networks.preconditioning import Preconditioned
from dgray.catalogue import network_like
from dgray.correction.correction import Inputs
from dgray.correction.linear import LinearCorrection, denoising_error
from dgray.correction.network_ensemble import NetworkEnsemble, initialised
from dgray.correction.trained_networks import TrainedNetworks
from dgray.data.images import Shape
from dgray.diffusion.denoiser import AutogradDenoiser, ChunkedDenoiser, Denoiser
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.discriminator.mlp import NOISE_FEATURES
from dgray.discriminator.objective import Batch

_ACTIVATIONS = {"silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh}


class _Field(nn.Module):
    """Network r(x; sigma) of vectors: F(c_in x; sigma) c_in."""

    def __init__(self, sigma_data: float) -> None:
        super().__init__()
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return r, of the shape and dtype of x, at noise levels sigma (...)."""
        level = sigma.float()[..., None]
        scale = (level**2 + self.sigma_data**2).rsqrt()
        return (self.raw(scale * x.float(), level) * scale).to(x.dtype)

    def raw(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return F for scaled samples (..., d) and noise levels (..., 1)."""
        raise NotImplementedError


class MlpField(_Field):
    """Field whose F is a multilayer perceptron of (c_in x, ln sigma), as the discriminator's."""

    def __init__(
        self, dimension: int, sigma_data: float, *, width: int, depth: int, activation: str
    ) -> None:
        super().__init__(sigma_data)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise([dimension + NOISE_FEATURES, *[width] * depth]):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.normal_(linear.weight, std=math.sqrt(2 / fan_in))
            nn.init.zeros_(linear.bias)
            layers += [linear, _ACTIVATIONS[activation]()]
        last = nn.Linear(width, dimension)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    @override
    def raw(self, x: Tensor, sigma: Tensor) -> Tensor:
        log_sigma = sigma.log()
        features = torch.cat([x, log_sigma / 4, log_sigma.sin(), log_sigma.cos()], dim=-1)
        output: Tensor = self.layers(features)
        return output


class ImageField(_Field):
    """Field of images whose F is the DDPM++ U-Net of a base that dgray trains."""

    def __init__(self, shape: Shape, sigma_data: float, *, width: int, depth: int) -> None:
        super().__init__(sigma_data)
        architecture = BaseArchitecture("unet", shape, width, depth, sigma_data)
        network = build_network(architecture)
        assert isinstance(network, Preconditioned)
        self.shape, self.unet = shape, network.model

    @override
    def raw(self, x: Tensor, sigma: Tensor) -> Tensor:
        images = x.reshape(-1, *self.shape)
        levels = (sigma.log() / 4).expand(*x.shape[:-1], 1).reshape(-1)
        output: Tensor = self.unet(images, levels, None, None)
        return output.reshape(x.shape)


@dataclass(frozen=True)
class Residual(LinearCorrection):
    """Correction by one trained field.

    Attributes:
        field: r(x; sigma), with its divergence.
        trained: its tensors.
    """

    field: Denoiser
    trained: tuple[Tensor, ...] = ()

    @property
    @override
    def tensors(self) -> tuple[Tensor, ...]:
        return self.trained

    @override
    def score_change(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self.field(x, sigma)

    @override
    def score_change_and_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        return self.field.with_divergence(x, sigma, probes)


@dataclass(frozen=True)
class ResidualFields(TrainedNetworks):
    """Fields in training, one for each replicate."""

    @override
    def loss(self, batch: Batch) -> Scalars:
        real = batch.real
        return denoising_error(real.sigma[..., None] * self.networks(real), batch)

    @override
    def member(self, index: int) -> Residual:
        return Residual(*self.trained(index))


def build_residual(
    inputs: Inputs, generators: Sequence[torch.Generator], *, network: Mapping[str, Any]
) -> ResidualFields:
    """Return fields at 0, one for each generator.

    Args:
        inputs: base and its samples.
        generators: each draws the initial weights of one replicate.
        network: section ``discriminator`` of the study: kind and size of the network.
    """
    scale = inputs.sigma_data
    is_image = network_like(network["kind"]).is_convolutional
    if not is_image:
        sizes = {name: network[name] for name in ("width", "depth", "activation")}
        fields = initialised(lambda: MlpField(inputs.dimension, scale, **sizes), generators)
    else:
        assert inputs.shape is not None  # a rule of the study file
        shape, width, depth = inputs.shape, network["width"], network["depth"]
        fields = initialised(
            lambda: ImageField(shape, scale, width=width, depth=depth), generators
        )
    template: Denoiser = AutogradDenoiser(fields[0].eval())
    if isinstance(inputs.base, ChunkedDenoiser):
        template = ChunkedDenoiser(template, inputs.base.size)
    return ResidualFields(NetworkEnsemble.of(template, fields, inputs.shape if is_image else None))
