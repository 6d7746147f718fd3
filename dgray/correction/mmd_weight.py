r"""Guidance weight of least distance between distributions, the comparator of ``calibrate``.

Galashov et al. 2025 (arXiv 2510.00815) learn the guidance weight as a function of the noise levels
by self-consistency: noised data that is denoised from level t to level s < t should have the
distribution of data noised to s. The distance is a maximum mean discrepancy (MMD) between samples
of the two distributions,

    MMD^2 = 2 E|x_w - y| - E|x_w - x_w'| - E|y - y'|,

here with the kernel -|x - y| (energy distance, Szekely and Rizzo 2013, J. Stat. Plan. Inference
143(8)). x_w is a step of the reverse SDE from x_t with the corrected denoiser, y is data noised to
s. The levels are the knots of the calibrated weight, each step goes to the next lower one, and
each knot has a weight of its own in [-1, 3] (ours; the paper trains a network over all pairs of
levels). The lowest knot has the weight of the one above. Unlike the least-squares weight it is
neither shrunk nor tested for significance, as in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from scipy.optimize import minimize_scalar
from torch import Tensor

from dgray.correction.linear import LinearCorrection
from dgray.correction.weight import SplineWeight
from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.noise import named_generator

LOWEST, HIGHEST = -1.0, 3.0  # weights that are tried
TOLERANCE = 1e-3  # of a weight
MOST_POINTS = 500  # distances are computed between all pairs


@dataclass(frozen=True)
class Denoised:
    """Noised samples at a level, their denoised values, and the correction at weight 1.

    Attributes:
        x: samples at the level, shape (N, d).
        base: D(x), shape (N, d).
        change: sigma^2 c(x), shape (N, d).
    """

    x: Float[Tensor, "N d"]
    base: Float[Tensor, "N d"]
    change: Float[Tensor, "N d"]

    def step(self, weight: float, levels: tuple[float, float], noise: Tensor) -> Tensor:
        """Return a step of the reverse SDE from the first level to the second, (N, d)."""
        high, low = levels
        denoised, kept = self.base + weight * self.change, (low / high) ** 2
        return denoised + kept * (self.x - denoised) + low * math.sqrt(1 - kept) * noise


def mmd_weight(
    correction: LinearCorrection,
    base: Denoiser,
    clean: Float[Tensor, "N d"],
    labels: Tensor | None,
    *,
    knots: Float64[Tensor, "K"],
    seed: int,
) -> SplineWeight:
    """Return the weight of least MMD at each knot.

    Args:
        correction: correction that is linear in its weight.
        base: the denoiser to be corrected.
        clean: samples of the data; the first MOST_POINTS are used.
        labels: their classes, int64 (N,); None if no model is conditional.
        knots: ln sigma, increasing, shape (K,), float64.
        seed: seed of all noise.
    """
    clean, labels = clean[:MOST_POINTS], None if labels is None else labels[:MOST_POINTS]
    correction, base = with_labels(correction, labels), with_labels(base, labels)
    sigmas = knots.exp().tolist()
    weights = []
    for i, levels in enumerate(zip(sigmas[1:], sigmas[:-1], strict=True)):
        generator = named_generator(seed, "noise", "mmd", i)
        shape = (3, *clean.shape)
        noises = torch.randn(shape, generator=generator, dtype=torch.float64).to(clean)
        high, low = levels
        x, level = clean + high * noises[0], torch.full_like(clean[:, 0], high)
        start = Denoised(x, base(x, level), high**2 * correction.score_change(x, level))
        weights.append(_best(start, clean + low * noises[1], levels, noises[2]))
    return SplineWeight(knots, torch.tensor([weights[0], *weights], dtype=torch.float64))


def _best(start: Denoised, target: Tensor, levels: tuple[float, float], noise: Tensor) -> float:
    """Return the weight whose step is closest to the target in distribution."""
    result = minimize_scalar(
        lambda weight: energy_distance(start.step(weight, levels, noise), target),
        bounds=(LOWEST, HIGHEST),
        options={"xatol": TOLERANCE},
    )
    return float(result.x)


def energy_distance(x: Float[Tensor, "N d"], y: Float[Tensor, "M d"]) -> float:
    """Return 2 E|x - y| - E|x - x'| of two sets; E|y - y'| is left out, as it is constant in w."""
    count = len(x)
    within = torch.cdist(x, x).sum() / (count * max(count - 1, 1))
    return float(2 * torch.cdist(x, y).mean() - within)
