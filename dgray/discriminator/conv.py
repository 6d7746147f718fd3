r"""Ensembles of convolutional discriminators, on images or on the feature maps of a frozen trunk.

An image x of d = C H W values is scaled by 1 / sqrt(sigma^2 + sigma_data^2), EDM's input scaling
(Karras et al. 2022, arXiv 2206.00364, Table 1), and encoded to one logit by the network of
``dgray.discriminator.conv_network``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from dgray.discriminator.autograd_ensemble import AutogradEnsemble
from dgray.discriminator.conv_network import ConvShape, Forward
from dgray.discriminator.discriminator import draw_dropout_masks
from dgray.discriminator.trunk import Trunk


@dataclass(frozen=True, kw_only=True)
class ConvNet(AutogradEnsemble):
    """Ensemble of convolutional networks; ``masks`` drop channels of every block.

    Attributes:
        shape: size of a network; ``shape.sizes`` names the parameters.
        sigma_data: scale of the data, > 0.
        trunk: network whose feature maps the ensemble reads; None: it reads the scaled image.
    """

    shape: ConvShape
    sigma_data: float
    trunk: Trunk | None = None

    @property
    @override
    def num_classes(self) -> int:
        return self.shape.num_classes

    @property
    @override
    def activation_size(self) -> int:
        largest = self.shape.width * math.prod(self.shape.image[1:])
        return largest if self.trunk is None else max(largest, self.trunk.activation_size)

    @override
    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> ConvNet:
        """Drop whole channels (Tompson et al. 2015, arXiv 1411.4280) of each row.

        They are dropped before the last convolution of every block; neighbouring pixels carry
        nearly the same information.
        """
        shapes = [(num_rows, channels) for channels in self.shape.channels]
        masks = draw_dropout_masks(probability, generators, shapes, self.tensors[0])
        return replace(self, masks=masks)

    @override
    def logit_of_rows(
        self, x: Float[Tensor, "#R N d"], sigma: Float[Tensor, "#R N"]
    ) -> Float[Tensor, "#R N"]:
        count = len(self.tensors[0])
        maps = self._maps(x, sigma.to(self.tensors[0].dtype))
        maps = maps.expand(count, *maps.shape[1:])
        sigma = sigma.to(maps.dtype).expand(count, -1)
        labels = None if self.labels is None else self.labels.expand(count, sigma.shape[1])
        logit = Forward(self.shape, self.parameters)(maps, sigma, labels, self.masks)
        return logit.to(x.dtype)

    def _maps(
        self, x: Float[Tensor, "R N d"], sigma: Float[Tensor, "R N"]
    ) -> Float[Tensor, "R N C H W"]:
        """Return the input of the networks for x (R, N, d), shape (R, N, C, H, W)."""
        if self.trunk is None:
            scale = (sigma**2 + self.sigma_data**2).rsqrt()[..., None]
            maps = x.to(scale.dtype) * scale
        else:
            maps = self.trunk(x.flatten(0, 1).to(sigma.dtype), sigma.flatten())
        return maps.to(sigma.dtype).reshape(*sigma.shape, *self.shape.image)


def initialise_conv(
    shape: ConvShape,
    sigma_data: float,
    generators: Sequence[torch.Generator],
    *,
    trunk: Trunk | None = None,
) -> ConvNet:
    """Return a float32 ensemble with initial weights; generators[r] alone draws member r.

    Weights have variance 1 / fan-in, and the last layer starts at zero, so that guidance starts
    at zero.

    Raises:
        ValueError: ``shape.image`` is not the shape of the trunk's feature maps.
    """
    if trunk is not None and trunk.shape != shape.image:
        raise ValueError(
            f"the networks must have the trunk's feature maps as input, but got {shape.image} for "
            f"maps of {trunk.shape}"
        )
    parameters = {}
    for name, size in shape.sizes.items():
        if len(size) > 1 and not name.startswith("out."):
            std = 1 / math.sqrt(1 if name == "label.weight" else math.prod(size[1:]))
            draws = [torch.randn(size, generator=g) * std for g in generators]
        else:
            value = float("norm.weight" in name)
            draws = [torch.full(size, value) for _ in generators]
        parameters[name] = torch.stack(draws)
    return ConvNet(shape=shape, parameters=parameters, sigma_data=sigma_data, trunk=trunk)
