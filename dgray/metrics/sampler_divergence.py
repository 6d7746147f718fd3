r"""The reverse KL of the very sampler used, discretisation included.

A deterministic sampler is a map from noise to samples. Where the map is one to one the
log-determinants of its steps give the log-density q of every sample it draws, so KL(q, p_data) =
E[log q - log p_data] is a plain average over samples wherever p_data is known. Under a wild field
long steps can fold space over itself; several starts then share an end and q is more than the
formula says. A negative determinant betrays it (a sure sign, though not the only one), so those
samples are counted and the estimate is withheld.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dgray.diffusion.sampler import Denoise, heun_step


@dataclass(frozen=True)
class SampledDensity:
    """Samples of ``heun`` and the density of their law.

    Attributes:
        samples: shape (N, d).
        log_density: in nats, shape (N,); valid if nothing is folded.
        folded: whether a step turned space inside out there, shape (N,).
    """

    samples: Tensor
    log_density: Tensor
    folded: Tensor


def heun_log_density(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    prior_std: float,
    corrector: Denoise | None = None,
) -> SampledDensity:
    """Run ``heun`` and follow the density of what it draws.

    Args:
        denoise: D(x; sigma), differentiable.
        x: noise from N(0, prior_std^2 I), shape (N, d), float64.
        sigmas: decreasing noise levels, shape (num_steps + 1,).
        prior_std: > 0.
        corrector: the denoiser of Heun's second stage; None: the same.
    """
    log_density = -0.5 * ((x / prior_std) ** 2).sum(1)
    log_density = log_density - x.shape[1] * math.log(prior_std * math.sqrt(2 * math.pi))
    folded = torch.zeros_like(log_density, dtype=torch.bool)
    for sigma, next_sigma in pairwise(sigmas.tolist()):

        def step(y: Tensor, here: float = sigma, there: float = next_sigma) -> Tensor:
            return heun_step(denoise, y, here, there, corrector=corrector)

        x, sign, log_determinant = _with_determinant(step, x)
        log_density = log_density - log_determinant
        folded |= sign <= 0
    return SampledDensity(x, log_density, folded)


def _with_determinant(
    step: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """step(x) and, row by row, the sign and log|.| of det d step / dx, by d backward passes."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        moved = step(x)
        rows = [
            torch.autograd.grad(moved[:, i].sum(), x, retain_graph=i < x.shape[1] - 1)[0]
            for i in range(x.shape[1])
        ]
    sign, log_determinant = torch.linalg.slogdet(torch.stack(rows, dim=1))
    return moved.detach(), sign, log_determinant
