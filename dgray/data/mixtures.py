"""Named Gaussian mixtures, float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dgray.diffusion.class_mixture import ClassMixture, Mixture
from dgray.diffusion.full_mixture import FullGaussianMixture
from dgray.diffusion.mixture import ExactLaw, GaussianMixture

Written = Mapping[str, Sequence[Any] | None] | Sequence[Mapping[str, Any]]
"""Mixture written out: columns ``means``, ``stds`` and ``weights``, or a list of components."""


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


def correlated(dimension: int) -> FullGaussianMixture:
    """Return the correlated Gaussian of the literature on density ratios, d even.

    Coordinates 2i and 2i + 1 have variance 1 and correlation rho = sqrt(1 - exp(-4 KL / d)) with
    KL(p || N(0, I)) = d / 4 nats, so rho = 0.795 and the KL is 5, 10, ..., 80 nats for d = 20, 40,
    ..., 320 (the setting of Rhodes et al. 2020, arXiv 2006.12204).
    """
    rho = math.sqrt(1 - math.exp(-1))
    pair = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    covariance = torch.block_diag(*[pair] * (dimension // 2))
    zeros, ones = (f(1, dtype=torch.float64) for f in (torch.zeros, torch.ones))
    return FullGaussianMixture.of(zeros.expand(1, dimension).clone(), covariance[None], ones)


NAMED: Mapping[str, Callable[[], Mixture]] = {
    "ring8": ring8,
    "grid25": grid25,
    "five_gaussians_1d": five_gaussians_1d,
    "axes16": axes16,
    **{f"correlated{d}": partial(correlated, d) for d in (20, 40, 80, 160, 320)},
}


def build_mixture(
    name: str | None = None, components: Written | None = None
) -> Mixture | ClassMixture:
    """Return a named mixture, or one written out.

    Args:
        name: a name of ``NAMED``.
        components: K ``means``, ``stds`` and ``weights``, or K mappings with ``mean``, ``std`` (a
            number, or one per dimension) or ``covariance``, ``weight`` and ``label``.
    """
    if components is None:
        assert name is not None
        return NAMED[name]()
    if not isinstance(components, Mapping):
        return _listed(components)
    means = torch.tensor(components["means"], dtype=torch.float64)
    stds = torch.tensor(components["stds"], dtype=torch.float64)[:, None]
    weights = torch.tensor(components["weights"] or (1.0,) * len(means), dtype=torch.float64)
    return GaussianMixture(means, stds.expand_as(means).clone(), weights / weights.sum())


def _listed(components: Sequence[Mapping[str, Any]]) -> Mixture | ClassMixture:
    """Return the mixture of a list; diagonal ones have the cheaper formulas."""

    def column(name: str) -> list[Tensor]:
        return [_double(c[name]) for c in components]

    means, weights = torch.stack(column("mean")), torch.stack(column("weight"))
    weights = weights / weights.sum()
    law: Mixture
    if all(c["covariance"] is None for c in components):
        law = GaussianMixture(means, torch.stack(_stds(components, means)), weights)
    else:
        covariances = [
            (std**2).diag() if c["covariance"] is None else _double(c["covariance"])
            for c, std in zip(components, _stds(components, means), strict=True)
        ]
        law = FullGaussianMixture.of(means, torch.stack(covariances), weights)
    if components[0]["label"] is None:
        return law
    return ClassMixture(law, torch.tensor([c["label"] for c in components]))


def _double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _stds(components: Sequence[Mapping[str, Any]], means: Tensor) -> list[Tensor]:
    """Return the standard deviations (d,) of each component; ones where it has a covariance."""
    return [
        _double(1.0 if c["std"] is None else c["std"]).expand_as(mean).clone()
        for c, mean in zip(components, means, strict=True)
    ]


def distorted_mixture(
    data: ExactLaw,
    *,
    of: str | None = None,
    mean_shift: float | Sequence[float] = 0.0,
    mean_scale: float = 1.0,
    std_scale: float = 1.0,
    correlation_scale: float = 1.0,
    weight_slope: float = 0.0,
    components: Written | None = None,
    conditional: bool = False,
) -> Mixture | ClassMixture:
    """Return a mixture with known errors (base ``wrong_mixture``).

    Args:
        data: distribution of the data, which is distorted unless ``of`` or ``components`` is
            given.
        of: name of the mixture to distort.
        mean_shift: added to every mean.
        mean_scale: factor on every mean.
        std_scale: factor on every standard deviation.
        correlation_scale: factor on every covariance between two coordinates, in [0, 1].
        weight_slope: weights times 1 + slope u, u from -1 (first component) to 1 (last).
        components: the whole mixture written out.
        conditional: whether the distribution is conditional on the classes of the mixture.

    Raises:
        ValueError: if the data is to be distorted and is not a Gaussian mixture, or has no classes
            for a conditional distribution.
    """
    right: Any = data
    if components is not None:
        right = build_mixture(components=components)
    elif of is not None:
        right = NAMED[of]()
    classes = right.classes if isinstance(right, ClassMixture) else None
    law = right.mixture if isinstance(right, ClassMixture) else right
    if components is None:
        law = _distorted(
            law,
            mean_shift=mean_shift,
            mean_scale=mean_scale,
            std_scale=std_scale,
            correlation_scale=correlation_scale,
            weight_slope=weight_slope,
        )
    if not conditional:
        return law
    if classes is None:
        raise ValueError("base.conditional needs classes, but the mixture of the base has none")
    return ClassMixture(law, classes)


def _distorted(
    right: object,
    *,
    mean_shift: float | Sequence[float],
    mean_scale: float,
    std_scale: float,
    correlation_scale: float,
    weight_slope: float,
) -> Mixture:
    if not isinstance(right, GaussianMixture | FullGaussianMixture):
        raise ValueError(
            "base.kind 'wrong_mixture' distorts a Gaussian mixture, but the data is a "
            f"{type(right).__name__}; set base.of or base.components"
        )
    shift = torch.tensor(mean_shift, dtype=torch.float64)
    count = len(right.weights)
    slope = torch.linspace(-1, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1)
    weights = right.weights * (1 + weight_slope * slope)
    return right.distorted(
        right.means * mean_scale + shift,
        weights / weights.sum(),
        std_scale=std_scale,
        correlation_scale=correlation_scale,
    )
