r"""The reverse KL of the very sampler used, discretisation included.

A deterministic sampler is a map from noise to samples. The log-determinants of its steps give the
exact log-density q of every sample it draws, so KL(q, p_data) = E[log q - log p_data] is a plain
average over samples wherever p_data is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dgray.diffusion.sampler import Denoise, heun_step


def heun_log_density(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, corrector: Denoise | None = None
) -> tuple[Tensor, Tensor]:
    """Run ``heun`` and follow the density of what it draws.

    Args:
        denoise: D(x; sigma), differentiable.
        x: noise from N(0, sigmas[0]^2 I), shape (N, d), float64.
        sigmas: decreasing noise levels, shape (num_steps + 1,).
        corrector: the denoiser of Heun's second stage; None: the same.

    Returns:
        Samples, shape (N, d), and the log-density of the sampler's law at them, nats, (N,).
    """
    dimension, std = x.shape[1], float(sigmas[0])
    log_density = -0.5 * ((x / std) ** 2).sum(1)
    log_density = log_density - dimension * math.log(std * math.sqrt(2 * math.pi))
    levels = sigmas.tolist()
    for sigma, next_sigma in pairwise(levels):

        def step(y: Tensor, here: float = sigma, there: float = next_sigma) -> Tensor:
            return heun_step(denoise, y, here, there, corrector=corrector)

        x, log_determinant = _with_log_determinant(step, x)
        log_density = log_density - log_determinant
    return x, log_density


def _with_log_determinant(step: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """step(x) and log|det d step / dx| of each row, by d backward passes."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        moved = step(x)
        rows = [
            torch.autograd.grad(moved[:, i].sum(), x, retain_graph=i < x.shape[1] - 1)[0]
            for i in range(x.shape[1])
        ]
    return moved.detach(), torch.linalg.slogdet(torch.stack(rows, dim=1))[1]
