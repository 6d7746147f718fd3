"""Small float64 convolutional ensembles with no zero weights, and points to try them on."""

from __future__ import annotations

import torch
from torch import Tensor

from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.trunk import Trunk


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def perturbed(net: ConvNet, amount: float = 0.3) -> ConvNet:
    noise = torch.Generator().manual_seed(99)
    return net.with_tensors(
        [
            t.double() + amount * torch.randn(t.shape, generator=noise, dtype=torch.float64)
            for t in net.tensors
        ]
    )


def random_conv(shape: ConvShape, members: int = 3, trunk: Trunk | None = None) -> ConvNet:
    return perturbed(initialise_conv(shape, 0.5, generators(members), trunk=trunk))


def noisy_images(members: int, rows: int, dimension: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(members, rows, dimension, generator=generator, dtype=torch.float64)
    sigma = torch.rand(members, rows, generator=generator, dtype=torch.float64) * 3 + 0.01
    return x, sigma
