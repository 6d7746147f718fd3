"""Named Gaussian mixtures, float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dgray.diffusion.mixture import ExactLaw, GaussianMixture


def mixture(means: Tensor, std: float, weights: Tensor | None = None) -> GaussianMixture:
    """Return a mixture of isotropic components of one width; ``weights`` None: equal weights."""
    weights = torch.ones(len(means)) if weights is None else weights
    means = means.double()
    return GaussianMixture(
        means, torch.full_like(means, std), weights.double() / weights.double().sum()
    )


def ring8() -> GaussianMixture:
    """Return eight Gaussians of standard deviation 0.2 on a circle of radius 2, d = 2."""
    angle = torch.arange(8) * (2 * math.pi / 8)
    return mixture(2 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.2)


def grid25() -> GaussianMixture:
    """Return 5 x 5 Gaussians of standard deviation 0.15 and spacing 1, d = 2 (tiny-edm)."""
    axis = torch.arange(-2.0, 3.0)
    return mixture(torch.cartesian_prod(axis, axis), 0.15)


def five_gaussians_1d() -> GaussianMixture:
    """Return five Gaussians at -4, -2, 0, 2, 4, of standard deviation 0.15, d = 1 (tiny-edm)."""
    return mixture(torch.arange(-4.0, 5.0, 2.0)[:, None], 0.15)


def axes16() -> GaussianMixture:
    """Return 32 Gaussians of standard deviation 0.5 at +-2 on each axis of 16 dimensions."""
    return mixture(torch.cat([2 * torch.eye(16), -2 * torch.eye(16)]), 0.5)


NAMED: Mapping[str, Callable[[], GaussianMixture]] = {
    "ring8": ring8,
    "grid25": grid25,
    "five_gaussians_1d": five_gaussians_1d,
    "axes16": axes16,
}


def build_mixture(
    name: str | None = None, components: Mapping[str, Sequence[Any] | None] | None = None
) -> GaussianMixture:
    """Return a named mixture, or one written out: K ``means``, ``stds`` and ``weights``."""
    if components is None:
        assert name is not None
        return NAMED[name]()
    means = torch.tensor(components["means"], dtype=torch.float64)
    stds = torch.tensor(components["stds"], dtype=torch.float64)[:, None]
    weights = torch.tensor(components["weights"] or (1.0,) * len(means), dtype=torch.float64)
    return GaussianMixture(means, stds.expand_as(means).clone(), weights / weights.sum())


def distorted_mixture(
    data: ExactLaw,
    *,
    of: str | None = None,
    mean_shift: float | Sequence[float] = 0.0,
    mean_scale: float = 1.0,
    std_scale: float = 1.0,
    weight_slope: float = 0.0,
    components: Mapping[str, Sequence[Any] | None] | None = None,
) -> GaussianMixture:
    """Return a mixture with known errors (base ``wrong_mixture``).

    Args:
        data: law of the data, which is distorted unless ``of`` or ``components`` is given.
        of: name of the mixture to distort.
        mean_shift: added to every mean.
        mean_scale: factor on every mean.
        std_scale: factor on every standard deviation.
        weight_slope: weights times 1 + slope u, u from -1 (first component) to 1 (last).
        components: the whole mixture written out.

    Raises:
        ValueError: if the data is to be distorted and is not a Gaussian mixture.
    """
    if components is not None:
        return build_mixture(components=components)
    right = data if of is None else NAMED[of]()
    if not isinstance(right, GaussianMixture):
        raise ValueError(
            "base.kind 'wrong_mixture' distorts a Gaussian mixture, but the data is a "
            f"{type(right).__name__}; set base.of or base.components"
        )
    shift = torch.tensor(mean_shift, dtype=torch.float64)
    count = len(right.weights)
    slope = torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1)
    weights = right.weights * (1 + weight_slope * slope)
    return GaussianMixture(
        right.means * mean_scale + shift, right.stds * std_scale, weights / weights.sum()
    )
