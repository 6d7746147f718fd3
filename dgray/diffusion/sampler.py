"""Samplers: each is the algorithm of a paper, from noise at sigmas[0] to samples at sigmas[-1].

All implement ``Sampler``. Guidance enters through the denoiser alone, which they call by
``denoise_at``: the discriminator is then left out where guidance does not act. Samplers with two
stages per step take a second denoiser, ``corrector``, for the second stage; guidance of the first
stage only (the published setting of Kim et al. 2023, arXiv 2211.17091) is then an unguided
corrector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from dgray.diffusion.denoiser import denoise_at, levels_of
from dgray.diffusion.shapes import Sigmas, StepNoise, Vectors
from dgray.diffusion.sigmas import karras_sigmas

Denoise = Callable[[Tensor, Tensor], Tensor]
"""D(x; sigma): from x (*batch, d) and sigma (*batch) to (*batch, d)."""


class Sampler(Protocol):
    """Sampler of the catalogue, or of a user's package."""

    def __call__(
        self, denoise: Denoise, x: Vectors, sigmas: Sigmas, noise: StepNoise, /, **options: Any
    ) -> Vectors:
        """Return samples at sigmas[-1].

        Args:
            denoise: D(x; sigma), guided or not.
            x: noise at sigmas[0].
            sigmas: decreasing noise levels, >= 0.
            noise: standard normal, for each of the steps; empty (num_steps 0) for a deterministic
                sampler.
            options: ``corrector`` if the sampler has two stages (``SamplerSpec.is_two_stage``),
                and its own fields of the study (``SamplerSpec.options``).
        """
        ...


def sampler_sigmas(
    denoiser: object, num_steps: int, span: tuple[float, float], rho: float
) -> Sigmas:
    """Return the noise levels of a sampler, limited and rounded to those of the denoiser.

    As in EDM's sampler, the grid spans the part of [sigma_min, sigma_max] that the denoiser
    supports, and each level but the last, 0, is rounded to a level of its table.
    """
    sigmas = karras_sigmas(num_steps, *_supported(denoiser, span), rho)
    return torch.cat([levels_of(denoiser).round(sigmas[:-1]), sigmas[-1:]])


def rounded_span(denoiser: object, span: tuple[float, float]) -> tuple[float, float]:
    """Return [sigma_min, sigma_max], widened to the levels to which a sampler rounds its ends."""
    levels, (low, high) = levels_of(denoiser), _supported(denoiser, span)
    ends = levels.round(torch.tensor([low, high], dtype=torch.float64)).tolist()
    return min(span[0], ends[0]), max(span[1], ends[1])


def _supported(denoiser: object, span: tuple[float, float]) -> tuple[float, float]:
    levels = levels_of(denoiser)
    return max(span[0], levels.low), min(span[1], levels.high)


def heun(
    denoise: Denoise,
    x: Vectors,
    sigmas: Sigmas,
    noise: StepNoise | None = None,
    *,
    corrector: Denoise | None = None,
) -> Vectors:
    """Second-order deterministic sampler of EDM (Karras et al. 2022, Algorithm 1).

    Calls the denoiser 2 num_steps - 1 times if sigmas[-1] is 0.

    Args:
        denoise: see ``Sampler``.
        x: see ``Sampler``.
        sigmas: see ``Sampler``.
        noise: not used.
        corrector: denoiser of the second stage; None: ``denoise``.
    """
    del noise
    for sigma, next_sigma in _steps(sigmas):
        x = heun_step(denoise, x, sigma, next_sigma, corrector=corrector)
    return x


def heun_step(
    denoise: Denoise,
    x: Vectors,
    sigma: float,
    next_sigma: float,
    *,
    corrector: Denoise | None = None,
) -> Vectors:
    """Return one step of ``heun``; a step to sigma = 0 is Euler's."""
    slope = _slope(denoise, x, sigma)
    step = next_sigma - sigma
    if next_sigma == 0:
        return x + step * slope
    next_slope = _slope(corrector or denoise, x + step * slope, next_sigma)
    return x + step * 0.5 * (slope + next_slope)


def edm_stochastic(
    denoise: Denoise,
    x: Vectors,
    sigmas: Sigmas,
    noise: StepNoise,
    *,
    S_churn: float,
    S_min: float,
    S_max: float,
    S_noise: float,
    corrector: Denoise | None = None,
) -> Vectors:
    """Stochastic sampler of EDM (Karras et al. 2022, Algorithm 2).

    Args:
        denoise: see ``Sampler``.
        x: see ``Sampler``.
        sigmas: see ``Sampler``.
        noise: see ``Sampler``.
        S_churn: total amount of noise added back (EDM, Table 5), >= 0.
        S_min: lowest noise level with churn.
        S_max: highest noise level with churn.
        S_noise: inflation of the added noise, > 0.
        corrector: denoiser of the second stage; None: ``denoise``.
    """
    num_steps, levels = len(sigmas) - 1, levels_of(denoise)
    gamma_active = min(S_churn / num_steps, math.sqrt(2) - 1)
    for i, (sigma, next_sigma) in enumerate(_steps(sigmas)):
        gamma = gamma_active if S_min <= sigma <= S_max else 0.0
        raised = float(levels.round(torch.tensor(sigma * (1 + gamma), dtype=x.dtype)))
        x = x + math.sqrt(raised**2 - sigma**2) * S_noise * noise[i]
        x = heun_step(denoise, x, raised, next_sigma, corrector=corrector)
    return x


def reverse_sde(denoise: Denoise, x: Vectors, sigmas: Sigmas, noise: StepNoise) -> Vectors:
    r"""Reverse SDE, dx = -2 sigma score dsigma + sqrt(2 sigma) dw (Song et al. 2021).

    Each step holds D fixed and is then exact: x' = D + (s'/s)^2 (x - D) + s' sqrt(1 - (s'/s)^2) n,
    the ancestral step of Ho et al. 2020 (arXiv 2006.11239) in EDM's variables. Its distribution
    converges to that of the SDE with order 1. Arguments as of ``Sampler``.
    """
    for i, (sigma, next_sigma) in enumerate(_steps(sigmas)):
        denoised = denoise_at(denoise, x, sigma)
        kept = (next_sigma / sigma) ** 2
        x = denoised + kept * (x - denoised) + next_sigma * math.sqrt(1 - kept) * noise[i]
    return x


def _steps(sigmas: Sigmas) -> list[tuple[float, float]]:
    return list(pairwise(sigmas.tolist()))


def _slope(denoise: Denoise, x: Vectors, sigma: float) -> Vectors:
    """Return dx/dsigma of the probability-flow ODE."""
    return (x - denoise_at(denoise, x, sigma)) / sigma
