r"""Denoisers: their interface, and two that are built from others.

A denoiser maps a noisy sample x = x0 + sigma n to E[x0 | x] (Karras et al. 2022, arXiv
2206.00364); the score of the noised density is (D(x; sigma) - x) / sigma^2. Likelihoods along the
probability-flow ODE also need div_x D. Automatic differentiation gives it for every denoiser; some
have a far cheaper formula and override ``with_divergence``.

An image is a vector here: its d = C H W values in that order, in [-1, 1]. Networks reshape
internally, so that samplers, guidance and likelihoods are the same for points and images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors


@runtime_checkable
class Denoiser(Protocol):
    """D(x; sigma) and its divergence; no sample of a batch affects another."""

    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return E[x0 | x]."""
        ...

    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return E[x0 | x] and its divergence, sum_i dD_i/dx_i.

        By default by automatic differentiation: one backward pass per dimension or, with
        ``probes``, per probe for Hutchinson's estimate, the mean of v . (dD/dx) v over the probes
        v. A denoiser with a cheap exact divergence overrides this method.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            denoised = self(x, sigma)
        return denoised.detach(), _divergence(denoised, x, probes)


@runtime_checkable
class LevelDenoiser(Protocol):
    """Denoiser that does less work if the noise level of the batch is known on the host."""

    def at_level(self, x: Vectors, sigma: float) -> Vectors:
        """Return E[x0 | x] of samples that all have noise level sigma."""
        ...


def denoise_at(denoise: Callable[[Tensor, Tensor], Tensor], x: Vectors, sigma: float) -> Vectors:
    """Call a denoiser at one noise level of all samples, without a wait for the device."""
    if isinstance(denoise, LevelDenoiser):
        return denoise.at_level(x, sigma)
    return denoise(x, torch.full_like(x[..., 0], sigma))


@dataclass(frozen=True)
class NoiseLevels:
    """Noise levels at which a sampler may call a denoiser, by default all.

    Attributes:
        low: lowest one.
        high: highest one.
        table: the only ones, shape (M,); None: all from ``low`` to ``high``.
    """

    low: float = 0.0
    high: float = math.inf
    table: Tensor | None = None

    def round(self, sigma: Tensor) -> Tensor:
        """Return the nearest levels of the table, as ``round_sigma`` of EDM's networks."""
        if self.table is None:
            return sigma
        table = self.table.to(sigma.device)
        return table[(sigma.float()[..., None] - table).abs().argmin(-1)].to(sigma.dtype)


def levels_of(denoiser: object) -> NoiseLevels:
    """Return the attribute ``levels`` of a denoiser; without one, all noise levels."""
    levels: NoiseLevels = getattr(denoiser, "levels", NoiseLevels())
    return levels


@runtime_checkable
class Conditional(Protocol):
    """Class-conditional model, which becomes an ordinary one when it is bound to labels."""

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for a model that does not use labels."""
        ...

    def with_labels(self, labels: Labels) -> Self:
        """Return the model bound to the labels of the samples, which have the shape of sigma."""
        ...


def check_labels(labels: Labels, num_classes: int) -> None:
    """Check the labels that a conditional model is bound to.

    Labels on an accelerator are not checked, because reading them would wait for the device.

    Raises:
        ValueError: if a label is neither a class nor -1.
    """
    outside = (labels < -1) | (labels >= num_classes)
    if labels.device.type == "cpu" and bool(outside.any()):
        raise ValueError(
            f"labels must be classes from 0 to {num_classes - 1}, or -1 for none, but one is "
            f"{int(labels[outside][0])}; choose a class of the model"
        )


Model = TypeVar("Model", bound=Any)


def with_labels(model: Model, labels: Labels | None) -> Model:
    """Bind ``model`` to labels if there are any and the model uses them."""
    if labels is None or not isinstance(model, Conditional) or not model.num_classes:
        return model
    bound: Model = model.with_labels(labels)
    return bound


@dataclass(frozen=True)
class AutogradDenoiser(Denoiser):
    """Denoiser built from a differentiable function (x, sigma) -> D."""

    function: Callable[[Tensor, Tensor], Tensor]

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self.function(x, sigma)


NOT_DIFFERENTIATED = (
    "a likelihood needs the derivative of the denoiser in x, but that of automatic "
    "differentiation differs from differences of its values; compute all of it with gradients "
    "(without torch.no_grad, inference_mode or detach) and without random numbers"
)
_STEPS = (1e-1, 1e-2, 1e-3)  # of differences, in noise levels
_RELATIVE, _ABSOLUTE = 0.2, 0.02  # the absolute error of a derivative is per dimension


def is_differentiated(denoiser: Denoiser, x: Vectors, sigma: Scalars) -> bool:
    """Return whether the derivative of a denoiser agrees with its central differences.

    It does not if part of the denoiser runs under ``torch.no_grad``, in ``inference_mode`` or on
    detached tensors, which automatic differentiation takes for constants, or if it is random.

    Args:
        denoiser: the denoiser.
        x: noised samples, shape (n, d).
        sigma: their noise levels, shape (n,).
    """
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, x.shape, generator=generator, dtype=torch.int8).to(x)
    direction = 2 * signs - 1
    _, derivative = denoiser.with_divergence(x, sigma, direction[None])
    best = torch.full_like(derivative, math.inf)
    for step in _STEPS:  # small steps are lost in rounding, large ones in curvature
        shift = step * sigma[:, None] * direction
        with torch.no_grad():
            change = denoiser(x + shift, sigma) - denoiser(x - shift, sigma)
        difference = torch.linalg.vecdot(change, direction) / (2 * step * sigma)
        size = torch.maximum(derivative.abs(), difference.abs())
        excess = (derivative - difference).abs() - _RELATIVE * size - _ABSOLUTE * x.shape[-1]
        best = torch.minimum(best, excess)
    return bool((best <= 0).all())


def _divergence(value: Vectors, x: Vectors, probes: Probes | None) -> Scalars:
    """Return sum_i dvalue_i/dx_i, or its estimate from probes; frees the graph of ``value``."""
    if not value.requires_grad:  # constant in x
        return torch.zeros_like(x[..., 0])
    directions = torch.eye(x.shape[-1]).to(x) if probes is None else probes.to(x)
    total = torch.zeros_like(x[..., 0])
    for i, direction in enumerate(directions):
        is_last = i == len(directions) - 1
        direction = direction.expand_as(x)
        (product,) = torch.autograd.grad(
            value, x, direction, retain_graph=not is_last, allow_unused=True
        )
        if product is not None:
            total = total + torch.linalg.vecdot(product, direction)
    return total if probes is None else total / len(directions)


Rows = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # x, sigma, labels, probes


@dataclass(frozen=True)
class ChunkedDenoiser(Denoiser, Conditional):
    """Denoiser that calls another on at most ``size`` samples at a time, without gradients.

    Bounds the memory of large batches. Results differ from those of one batch by rounding only.
    """

    inner: Denoiser
    size: int
    labels: Tensor | None = None

    @property
    @override
    def num_classes(self) -> int:
        return self.inner.num_classes if isinstance(self.inner, Conditional) else 0

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the inner denoiser."""
        return levels_of(self.inner)

    @override
    def with_labels(self, labels: Labels) -> ChunkedDenoiser:
        return replace(self, labels=labels)

    @override
    @torch.no_grad()
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        (denoised,) = _by_chunk(
            lambda rows: (with_labels(self.inner, rows[2])(rows[0], rows[1]),),
            (x, sigma, self.labels, None),
            self.size,
        )
        return denoised

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        denoised, divergence = _by_chunk(
            lambda rows: with_labels(self.inner, rows[2]).with_divergence(
                rows[0], rows[1], rows[3]
            ),
            (x, sigma, self.labels, probes),
            self.size,
        )
        return denoised, divergence


def _by_chunk(
    function: Callable[[Rows], tuple[Tensor, ...]], rows: Rows, size: int
) -> tuple[Tensor, ...]:
    """Apply ``function`` chunk by chunk; outputs (..., d) or (...), like x or sigma."""
    x, sigma, labels, probes = rows
    leading = sigma.shape
    flat_x, flat_sigma = x.reshape(-1, x.shape[-1]), sigma.reshape(-1)
    flat_labels = None if labels is None else labels.expand(leading).reshape(-1)
    flat_probes = None if probes is None else probes.reshape(len(probes), -1, x.shape[-1])
    parts = []
    for start in range(0, max(len(flat_sigma), 1), size):
        cut = slice(start, start + size)
        chunk = (
            flat_x[cut],
            flat_sigma[cut],
            None if flat_labels is None else flat_labels[cut],
            None if flat_probes is None else flat_probes[:, cut],
        )
        parts.append([part.detach() for part in function(chunk)])
    joined = (torch.cat(part) for part in zip(*parts, strict=True))
    return tuple(part.reshape(*leading, *part.shape[1:]) for part in joined)
