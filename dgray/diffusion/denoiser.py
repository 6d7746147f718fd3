r"""What a denoiser is, and the divergence of one that does not know its own.

A denoiser maps a noisy sample x = x0 + sigma n to E[x0 | x] (Karras et al. 2022, arXiv
2206.00364). Its score is (D(x; sigma) - x) / sigma^2. Likelihoods along the probability-flow ODE
need div_x D too, so a denoiser gives both in one call; it usually can do so far cheaper than
automatic differentiation.

An image is a vector here: its d = C H W values in that order, in [-1, 1]. A network knows its own
shape and reshapes inside, so that samplers, guidance and likelihoods are the same for points and
images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor


class Denoiser(Protocol):
    """D(x; sigma) and its divergence, row by row: no sample sees another."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] for x of shape (..., d) and sigma of shape (...), > 0; shape (..., d)."""
        ...

    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same, and sum_i dD_i/dx_i of shape (...).

        With ``probes``, vectors of +-1 of shape (P, ..., d), a denoiser that has no cheap exact
        divergence may give Hutchinson's estimate instead, the mean of v . (dD/dx) v over them.
        """
        ...


@runtime_checkable
class Conditional(Protocol):
    """A model of each class of the data: bound to labels, it is a model like any other."""

    @property
    def num_classes(self) -> int:
        """How many classes it knows; 0: it has no use for labels."""
        ...

    def with_labels(self, labels: Tensor) -> Self:
        """The same model of rows with these labels, int64 of the shape of sigma."""
        ...


Model = TypeVar("Model", bound=Any)


def with_labels(model: Model, labels: Tensor | None) -> Model:
    """``model`` bound to labels; itself where there are none, or where it asks for none."""
    if labels is None or not isinstance(model, Conditional) or not model.num_classes:
        return model
    bound: Model = model.with_labels(labels)
    return bound


@dataclass(frozen=True)
class AutogradDenoiser:
    """A differentiable function (x, sigma) -> D as a denoiser.

    A divergence costs a backward pass for each of the d dimensions, or for each probe.
    """

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Denoiser``."""
        return self.function(x, sigma)

    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Denoiser``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = self.function(x, sigma)
        return denoised.detach(), _divergence(denoised, x, probes)


def _divergence(value: Tensor, x: Tensor, probes: Tensor | None) -> Tensor:
    """sum_i dvalue_i/dx_i, or its estimate from probes; the graph of ``value`` is used up."""
    directions = torch.eye(x.shape[-1]).to(x) if probes is None else probes.to(x)
    total = torch.zeros_like(x[..., 0])
    for i, direction in enumerate(directions):
        last = i == len(directions) - 1
        along = direction.expand_as(x)
        (row,) = torch.autograd.grad(value, x, along, retain_graph=not last)
        total = total + torch.linalg.vecdot(row, along)
    return total if probes is None else total / len(directions)


def score(denoise: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """grad_x log p(x; sigma) of the density whose denoiser this is; shape of x."""
    return (denoise(x, sigma) - x) / sigma[..., None] ** 2
