"""Small float64 convolutional ensembles with no zero weights, and points to try them on."""

from __future__ import annotations

import torch
from torch import Tensor

from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.trunk import Trunk

SHAPES = {
    "plain": ConvShape(image=(1, 5, 6), width=4, depth=1),
    "deep": ConvShape(image=(2, 5, 5), width=8, depth=2),
    "attention": ConvShape(image=(1, 6, 6), width=4, depth=1, attention=True, num_classes=3),
    "one level": ConvShape(image=(3, 4, 3), width=4, depth=1, attention=True),
}


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
