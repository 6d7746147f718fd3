r"""Density of the samples of a deterministic sampler, discretisation included.

A deterministic sampler maps noise to samples. If the map is one to one, the log-determinants of
its steps give the log-density q of each sample, so that KL(q || p_data) = E[log q - log p_data] is
an average over samples wherever p_data is known. For an irregular field, long steps can fold space
over itself: several starts then share an end, and q is larger than the formula gives. A negative
determinant is sufficient evidence of a fold (not necessary), so such samples are counted and the
estimate is withheld.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dgray.diffusion.sampler import Denoise, heun_step
from dgray.diffusion.shapes import Sigmas


@dataclass(frozen=True)
class SampledDensity:
    """Samples of ``heun`` with their log-density.

    Attributes:
        samples: at sigma = 0.
        log_density: in nats; valid if no sample is folded.
        folded: True where a step has a determinant <= 0.
    """

    samples: Float[Tensor, "N d"]
    log_density: Float[Tensor, "N"]
    folded: Bool[Tensor, "N"]


def heun_log_density(
    denoise: Denoise,
    x: Float[Tensor, "N d"],
    sigmas: Sigmas,
    *,
    prior_std: float,
    corrector: Denoise | None = None,
) -> SampledDensity:
    """Run ``heun`` and compute the density of its samples.

    Args:
        denoise: D(x; sigma), differentiable.
        x: noise from N(0, prior_std^2 I), float64.
        sigmas: decreasing noise levels.
        prior_std: standard deviation of the noise, > 0.
        corrector: denoiser of the second stage; None: ``denoise``.
    """
    log_density = -0.5 * ((x / prior_std) ** 2).sum(1)
    log_density = log_density - x.shape[1] * math.log(prior_std * math.sqrt(2 * math.pi))
    folded = torch.zeros_like(log_density, dtype=torch.bool)
    for sigma, next_sigma in pairwise(sigmas.tolist()):

        def step(y: Tensor, start: float = sigma, stop: float = next_sigma) -> Tensor:
            return heun_step(denoise, y, start, stop, corrector=corrector)

        x, sign, log_determinant = _with_determinant(step, x)
        log_density = log_density - log_determinant
        folded |= sign <= 0
    return SampledDensity(x, log_density, folded)


def _with_determinant(
    step: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return step(x) and, row by row, sign and ln |.| of det d step / dx, in d backward passes."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        moved = step(x)
        rows = [
            torch.autograd.grad(moved[:, i].sum(), x, retain_graph=i < x.shape[1] - 1)[0]
            for i in range(x.shape[1])
        ]
    sign, log_determinant = torch.linalg.slogdet(torch.stack(rows, dim=1))
    return moved.detach(), sign, log_determinant
