r"""What a denoiser is, and the divergence of one that does not know its own.

A denoiser maps a noisy sample x = x0 + sigma n to E[x0 | x] (Karras et al. 2022, arXiv
2206.00364). Its score is (D(x; sigma) - x) / sigma^2. Likelihoods along the probability-flow ODE
need div_x D too, so a denoiser gives both in one call; it usually can do so far cheaper than
automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """D(x; sigma) and its divergence, row by row: no sample sees another."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] for x of shape (..., d) and sigma of shape (...), > 0; shape (..., d)."""
        ...

    def with_divergence(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and sum_i dD_i/dx_i of shape (...)."""
        ...


@dataclass(frozen=True)
class AutogradDenoiser:
    """A differentiable function (x, sigma) -> D as a denoiser: d backward passes a divergence."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Denoiser``."""
        return self.function(x, sigma)

    def with_divergence(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Denoiser``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = self.function(x, sigma)
            sums = denoised.flatten(0, -2).sum(0).unbind()
        divergence = torch.zeros_like(sigma)
        for i, total in enumerate(sums):
            (row,) = torch.autograd.grad(total, x, retain_graph=i < len(sums) - 1)
            divergence = divergence + row[..., i]
        return denoised.detach(), divergence


def score(denoise: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """grad_x log p(x; sigma) of the density whose denoiser this is; shape of x."""
    return (denoise(x, sigma) - x) / sigma[..., None] ** 2
