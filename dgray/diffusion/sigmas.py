"""Noise levels of samplers and training (Karras et al. 2022, arXiv 2206.00364)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dgray.diffusion.shapes import Scalars, Sigmas


def karras_sigmas(num_steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Sigmas:
    """Return the steps of EDM Eq. 5: num_steps levels from sigma_max to sigma_min, then 0.

    float64.
    """
    if num_steps == 1:
        return torch.tensor([sigma_max, 0.0], dtype=torch.float64)
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    # Exact, since a rounded end may lie outside of an interval that ends there.
    sigmas[0], sigmas[-1] = sigma_max, sigma_min
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def log_uniform(uniform: Scalars, low: float, high: float) -> Scalars:
    """Map uniform numbers in [0, 1] to noise levels with ln sigma uniform on [ln low, ln high]."""
    return torch.exp(math.log(low) + uniform * math.log(high / low))


def log_normal(normal: Scalars, mean: float = -1.2, std: float = 1.2) -> Scalars:
    """Map standard normal numbers to EDM's training levels, ln sigma ~ N(mean, std^2)."""
    return torch.exp(mean + std * normal)


def log_edges(low: float, high: float, num_bins: int) -> Float[Tensor, "num_edges"]:
    """Return the num_bins + 1 edges, float64, of bins of equal width in ln sigma."""
    return torch.exp(
        torch.linspace(math.log(low), math.log(high), num_bins + 1, dtype=torch.float64)
    )


def stratified(
    uniform: Float[Tensor, "*batch S"], low: float, high: float
) -> Float[Tensor, "*batch S"]:
    """Map uniform numbers in [0, 1] to one noise level in each of S strata equal in ln sigma.

    Each row is an unbiased quadrature of an integral over ln sigma, so the spread over rows gives
    the standard error of their mean.
    """
    strata = torch.arange(uniform.shape[-1], dtype=uniform.dtype, device=uniform.device)
    return log_uniform((strata + uniform) / uniform.shape[-1], low, high)
