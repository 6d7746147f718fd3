"""A small float64 ensemble with no zero weights."""

from __future__ import annotations

import torch

from dgray.discriminator.mlp import Mlp, MlpShape, initialise


def random_ensemble(members: int, activation: str = "silu", dimension: int = 2) -> Mlp:
    shape = MlpShape(dimension=dimension, width=7, depth=3, activation=activation)
    generators = [torch.Generator().manual_seed(i) for i in range(members)]
    mlp = initialise(shape, 0.7, generators)
    noise = torch.Generator().manual_seed(99)
    return mlp.with_tensors(
        [t.double() + 0.3 * torch.randn(t.shape, generator=noise).double() for t in mlp.tensors]
    )
