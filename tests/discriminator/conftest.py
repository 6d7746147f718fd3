"""Small ensembles and points to try them on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgray.discriminator.mlp import Mlp
from tests.discriminator.ensembles import random_ensemble


@pytest.fixture(params=["silu", "softplus", "tanh"])
def ensemble(request: pytest.FixtureRequest) -> Mlp:
    return random_ensemble(3, request.param)


@pytest.fixture
def noisy_points() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(3, 11, 2, generator=generator, dtype=torch.float64)
    sigma = torch.rand(3, 11, generator=generator, dtype=torch.float64) * 3 + 0.01
    return x, sigma
