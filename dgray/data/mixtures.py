"""Named Gaussian mixtures, float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dgray.diffusion.mixture import GaussianMixture


def mixture(means: Tensor, std: float, weights: Tensor | None = None) -> GaussianMixture:
    """Isotropic components of one width; equal weights unless given."""
    weights = torch.ones(len(means)) if weights is None else weights
    means = means.double()
    return GaussianMixture(
        means, torch.full_like(means, std), weights.double() / weights.double().sum()
    )


def ring8() -> GaussianMixture:
    """Eight Gaussians of standard deviation 0.2 on a circle of radius 2, d = 2."""
    angle = torch.arange(8) * (2 * math.pi / 8)
    return mixture(2 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.2)


def grid25() -> GaussianMixture:
    """5 x 5 Gaussians of standard deviation 0.15 (Verine's tiny-edm), one apart, d = 2."""
    axis = torch.arange(-2.0, 3.0)
    return mixture(torch.cartesian_prod(axis, axis), 0.15)


def five_gaussians_1d() -> GaussianMixture:
    """Centres -4, -2, 0, 2, 4, standard deviation 0.15 (Verine's tiny-edm), d = 1."""
    return mixture(torch.arange(-4.0, 5.0, 2.0)[:, None], 0.15)


def axes16() -> GaussianMixture:
    """Thirty-two Gaussians of standard deviation 0.5 at +-2 on each axis of 16 dimensions."""
    return mixture(torch.cat([2 * torch.eye(16), -2 * torch.eye(16)]), 0.5)


NAMED: Mapping[str, Callable[[], GaussianMixture]] = {
    "ring8": ring8,
    "grid25": grid25,
    "five_gaussians_1d": five_gaussians_1d,
    "axes16": axes16,
}
