"""The weight of least MMD against a search by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgray.correction.guidance import Guidance
from dgray.correction.mmd_weight import energy_distance, mmd_weight
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.discriminator.discriminator import Oracle, ZeroDiscriminator


def gaussian(mean: float, std: float) -> GaussianMixture:
    values = (torch.tensor([[v]], dtype=torch.float64) for v in (mean, std))
    return GaussianMixture(*values, torch.ones(1, dtype=torch.float64))


DATA, BASE = gaussian(0.0, 1.0), gaussian(1.0, 1.5)
KNOTS = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64).log()
CLEAN = DATA.sample(200, torch.Generator().manual_seed(1))


def distance_by_hand(weight: float, index: int) -> float:
    high, low = float(KNOTS[index + 1].exp()), float(KNOTS[index].exp())
    noise = torch.randn(
        3, 200, 1, generator=named_generator(0, "noise", "mmd", index), dtype=torch.float64
    )
    x, y = CLEAN + high * noise[0], CLEAN + low * noise[1]
    sigma = torch.full((200,), high, dtype=torch.float64)
    score = (1 - weight) * BASE.score(x, sigma) + weight * DATA.score(x, sigma)
    denoised = x + high**2 * score
    kept = low**2 / high**2
    moved = denoised + kept * (x - denoised) + low * math.sqrt(1 - kept) * noise[2]

    def mean_distance(a: Tensor, b: Tensor) -> float:
        return float((a[:, 0, None] - b[None, :, 0]).abs().sum())

    return 2 * mean_distance(moved, y) / 200**2 - mean_distance(moved, moved) / (200 * 199)


def test_weight_of_each_knot_is_the_best_of_a_search_by_hand() -> None:
    weight = mmd_weight(Guidance(Oracle(DATA, BASE)), BASE, CLEAN, None, knots=KNOTS, seed=0)
    grid = torch.linspace(-1, 3, 81).tolist()
    for index in range(2):
        best = min(grid, key=lambda w, index=index: distance_by_hand(w, index))
        assert abs(float(weight.values[index + 1]) - best) < 0.06
        assert abs(best - 1) < 0.7  # the exact correction, but for the length of the step
    assert weight.values[0] == weight.values[1]


def test_energy_distance_is_least_for_equal_laws() -> None:
    x, y, z = (
        gaussian(m, 1.0).sample(2000, torch.Generator().manual_seed(s))
        for m, s in ((0.0, 1), (0.0, 2), (0.5, 3))
    )
    constant = 2 / math.sqrt(math.pi)  # E|y - y'|
    assert abs(energy_distance(x, y) - constant) < 0.01
    assert energy_distance(x, z) - constant > 0.05


def test_a_correction_without_effect_has_a_weight() -> None:
    weight = mmd_weight(Guidance(ZeroDiscriminator()), BASE, CLEAN, None, knots=KNOTS, seed=0)
    assert torch.isfinite(weight.values).all()
