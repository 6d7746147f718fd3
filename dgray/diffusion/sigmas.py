"""Noise levels: a sampler's steps, the laws of training (Karras et al. 2022, arXiv 2206.00364)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def karras_sigmas(num_steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Steps of a sampler, EDM Eq. 5: decreasing, shape (num_steps + 1,), float64; the last 0."""
    if num_steps == 1:
        return torch.tensor([sigma_max, 0.0], dtype=torch.float64)
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def log_uniform(uniform: Tensor, low: float, high: float) -> Tensor:
    """Noise levels with d sigma / sigma uniform on [low, high], from uniform numbers in [0, 1]."""
    return torch.exp(math.log(low) + uniform * math.log(high / low))


def log_normal(normal: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """EDM's training law, from standard normal numbers: ln sigma ~ N(mean, std^2)."""
    return torch.exp(mean + std * normal)


def vp_time_to_sigma(time: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """Noise level of a time in [0, 1] of the VP process with linear beta.

    sigma^2 = exp(beta_min t + (beta_max - beta_min) t^2 / 2) - 1, noise over signal (Song et al.
    2021, arXiv 2011.13456, Eq. 33). Kim et al. 2023 guide at times 0.01 to 1, which is sigma in
    [0.0447, 152]: what to put into ``evaluate.interval`` for their setting.
    """
    return math.sqrt(math.expm1(beta_min * time + (beta_max - beta_min) * time**2 / 2))


def log_edges(low: float, high: float, num_bins: int) -> Tensor:
    """Edges of bins equal in log sigma, shape (num_bins + 1,), float64."""
    return torch.exp(
        torch.linspace(math.log(low), math.log(high), num_bins + 1, dtype=torch.float64)
    )


def stratified(uniform: Tensor, low: float, high: float) -> Tensor:
    """One noise level in each of S strata equal in log sigma, from uniform numbers (..., S).

    Every row is an unbiased quadrature of its own of an integral over log sigma, so the spread
    over rows is the standard error of their mean.
    """
    strata = torch.arange(uniform.shape[-1], dtype=uniform.dtype, device=uniform.device)
    return log_uniform((strata + uniform) / uniform.shape[-1], low, high)
