r"""Objective ``time_score``: the derivative of the log-ratio in the noise level is learned.

The log-ratio at sigma is that at sigma_max minus the integral of its derivative, the time score
(Choi et al. 2022, arXiv 2111.11010):

    d(x; sigma) = d(x; sigma_max) - int_{ln sigma}^{ln sigma_max} d'(x; s) d ln s,
    d' = d/d(ln sigma) (log p - log q).

A discriminator whose own derivative in ln sigma is fitted to d' is that integral, at the cost of
a single evaluation, if it vanishes at sigma_max, where data and base hardly differ. The loss of a
real sample x = x0 + sigma n is

    (d/d(ln sigma) d(x; sigma) - target)^2 / (2 dim) + d(x0 + sigma_max n; sigma_max)^2,
    target = |n|^2 - div D - |D - x|^2 / sigma^2.

|n|^2 - dim is the time score of N(x; x0, sigma^2), whose mean given x is that of the data
(conditional time score matching, Yu et al. 2025, arXiv 2502.02300). That of the base follows from
its denoiser by the heat equation, d log q / d(ln sigma) = sigma^2 (Laplacian log q + |grad log
q|^2) = div D - dim + |D - x|^2 / sigma^2 (ours). 2 dim is the variance of |n|^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from typing_extensions import override

from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.shapes import Scalars
from dgray.discriminator.discriminator import Differentiable
from dgray.discriminator.objective import Noised, Objective, Outputs

STEP = 0.01  # in ln sigma


@dataclass(frozen=True)
class TimeScore(Objective):
    """Conditional time score matching of the logit, and its boundary condition.

    Attributes:
        span: noise levels (sigma_min, sigma_max) of the study.
    """

    span: tuple[float, float]

    @override
    def __call__(self, outputs: Outputs, /) -> Scalars:
        real, target = outputs.batch.real, outputs.batch.time_residual
        discriminator = with_labels(outputs.discriminator, real.labels)
        slope = time_derivative(discriminator, real)
        highest = torch.full_like(real.sigma, self.span[1])
        noised = real.x + (highest - real.sigma)[..., None] * real.noise
        boundary = discriminator.logit(noised, highest)
        return (slope - target) ** 2 / (2 * real.x.shape[-1]) + boundary**2


def time_derivative(discriminator: Differentiable, real: Noised) -> Scalars:
    """Return the derivative of the logit in ln sigma at fixed x, shape (..., N).

    It is a central difference, whose relative error is about STEP^2 / 6: it works with every
    discriminator and costs the two evaluations that an exact derivative would cost too.
    """
    ends = [discriminator.logit(real.x, real.sigma * math.exp(h)) for h in (STEP, -STEP)]
    return (ends[0] - ends[1]) / (2 * STEP)


def time_residual(base: Denoiser, real: Noised) -> Scalars:
    """Return the conditional time score of the data minus that of the base, shape (..., N).

    It is |n|^2 - div D - |D - x|^2 / sigma^2.
    """
    denoised, divergence = with_labels(base, real.labels).with_divergence(real.x, real.sigma)
    slope = ((denoised - real.x) / real.sigma[..., None]).square().sum(-1)
    return real.noise.square().sum(-1) - divergence - slope
