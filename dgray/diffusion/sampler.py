"""Samplers: each the algorithm of a paper, from noise at sigmas[0] to samples at sigmas[-1].

None knows that guidance exists; ``corrector`` is a second denoiser for Heun's second stage, so
that guidance of the predictor alone (Kim et al. 2023's published setting) is two denoisers, not a
flag.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """First order, the probability-flow ODE dx/dsigma = (x - D) / sigma from x (..., d)."""
    for sigma, next_sigma in _steps(sigmas):
        x = x + (next_sigma - sigma) * _slope(denoise, x, sigma)
    return x


def heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, corrector: Denoise | None = None
) -> Tensor:
    """Second order, EDM's deterministic sampler (Karras et al. 2022, Algorithm 1).

    Args:
        denoise: D(x; sigma).
        x: noise at sigmas[0], shape (..., d).
        sigmas: decreasing noise levels, shape (num_steps + 1,), >= 0.
        corrector: the denoiser of the second stage; None: the same.

    Returns:
        Samples at sigmas[-1], shape (..., d); 2 num_steps - 1 denoiser calls if that is 0.
    """
    for sigma, next_sigma in _steps(sigmas):
        x = heun_step(denoise, x, sigma, next_sigma, corrector=corrector)
    return x


def heun_step(
    denoise: Denoise,
    x: Tensor,
    sigma: float,
    next_sigma: float,
    *,
    corrector: Denoise | None = None,
) -> Tensor:
    """One step of ``heun``; Euler's where it ends at sigma = 0."""
    slope = _slope(denoise, x, sigma)
    step = next_sigma - sigma
    if next_sigma == 0:
        return x + step * slope
    second = _slope(corrector or denoise, x + step * slope, next_sigma)
    return x + step * 0.5 * (slope + second)


def edm_stochastic(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    *,
    churn: tuple[float, float, float, float],
    corrector: Denoise | None = None,
) -> Tensor:
    """EDM's stochastic sampler (Karras et al. 2022, Algorithm 2).

    Args:
        denoise: D(x; sigma).
        x: noise at sigmas[0], shape (..., d).
        sigmas: decreasing noise levels, shape (num_steps + 1,).
        noise: standard normal, shape (num_steps, ..., d).
        churn: (S_churn, S_min, S_max, S_noise), EDM Table 5.
        corrector: the denoiser of the second stage; None: the same.
    """
    s_churn, s_min, s_max, s_noise = churn
    num_steps = len(sigmas) - 1
    gamma_active = min(s_churn / num_steps, math.sqrt(2) - 1)
    for i, (sigma, next_sigma) in enumerate(_steps(sigmas)):
        gamma = gamma_active if s_min <= sigma <= s_max else 0.0
        raised = sigma * (1 + gamma)
        x = x + math.sqrt(raised**2 - sigma**2) * s_noise * noise[i]
        x = heun_step(denoise, x, raised, next_sigma, corrector=corrector)
    return x


def reverse_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    r"""The plain reverse SDE, dx = -2 sigma score dsigma + sqrt(2 sigma) dw (Song et al. 2021).

    Each step holds D fixed and is then exact: x' = D + (s'/s)^2 (x - D) + s' sqrt(1 - (s'/s)^2) n,
    the ancestral step of Ho et al. 2020 (arXiv 2006.11239) in EDM's variables. Converges to the
    SDE with order 1 in law.

    Args:
        denoise: D(x; sigma).
        x: noise at sigmas[0], shape (..., d).
        sigmas: decreasing noise levels, shape (num_steps + 1,).
        noise: standard normal, shape (num_steps, ..., d).
    """
    for i, (sigma, next_sigma) in enumerate(_steps(sigmas)):
        denoised = denoise(x, x.new_full(x.shape[:-1], sigma))
        kept = (next_sigma / sigma) ** 2
        x = denoised + kept * (x - denoised) + next_sigma * math.sqrt(1 - kept) * noise[i]
    return x


def _steps(sigmas: Tensor) -> list[tuple[float, float]]:
    values = sigmas.tolist()
    return list(pairwise(values))


def _slope(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    """dx/dsigma of the probability-flow ODE."""
    return (x - denoise(x, torch.full_like(x[..., 0], sigma))) / sigma
