"""Denoisers from any callable of a user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from dgray.diffusion.denoiser import (
    NOT_DIFFERENTIATED,
    AutogradDenoiser,
    ChunkedDenoiser,
    Conditional,
    Denoiser,
    is_differentiated,
)
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.errors import GuidedModelError, one_line

BATCH_SIZE = 256  # samples that a user's denoiser processes at a time
_CHECKED = 2  # samples whose derivatives are compared with differences
_CHECKED_LEVELS = (0.3, 1.0, 3.0)  # their noise levels, in root mean squares of the samples

# Layers whose values in training mode are random, or change the module.
_OF_TRAINING = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


@dataclass
class DerivativeCheck:
    """Whether the derivatives of a denoiser were found to be right."""

    is_done: bool = False


@dataclass(frozen=True)
class UserDenoiser(Denoiser, Conditional):
    """Denoiser of vectors around a user's function of samples in their own shape.

    Attributes:
        function: (x (n, *size), sigma (n,)) -> E[x0 | x]; with classes, (x, sigma, labels (n,)).
        size: shape of a sample, (d,) or (C, H, W).
        dtype: type of x and sigma in a call.
        classes: number of classes; 0: the function is called without labels.
        labels: class of each row, int64; None: the function is called with None.
        check: whether its derivatives were compared with differences; of all its copies.
    """

    function: Callable[..., Tensor]
    size: tuple[int, ...]
    dtype: torch.dtype
    classes: int = 0
    labels: Tensor | None = None
    check: DerivativeCheck = field(default_factory=DerivativeCheck, repr=False, compare=False)

    @property
    @override
    def num_classes(self) -> int:
        return self.classes

    @override
    def with_labels(self, labels: Tensor) -> UserDenoiser:
        return replace(self, labels=labels)

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.expand(x.shape[:-1])
        # Copies, since the function may change its arguments.
        samples = x.reshape(-1, *self.size).to(self.dtype, copy=True)
        levels = sigma.reshape(-1).to(self.dtype, copy=True)
        arguments: list[Tensor | None] = [samples, levels]
        if self.classes:
            labels = self.labels
            arguments.append(None if labels is None else labels.expand(sigma.shape).reshape(-1))
        denoised: object = self.function(*arguments)
        if not isinstance(denoised, Tensor) or denoised.shape != samples.shape:
            is_tensor = isinstance(denoised, Tensor)
            actual = tuple(denoised.shape) if is_tensor else type(denoised).__name__  # type: ignore[attr-defined]
            raise GuidedModelError(
                f"a denoiser must return a tensor of the shape of x, {tuple(samples.shape)}, but "
                f"returned {actual}"
            )
        return denoised.reshape(x.shape).to(x.dtype)

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        if not self.check.is_done and len(x):
            self._check_derivatives(x, sigma)
            self.check.is_done = True
        return super().with_divergence(x, sigma, probes)

    def _check_derivatives(self, x: Tensor, sigma: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1])[:_CHECKED]
        labels = self.labels
        if labels is not None:
            labels = labels.expand(sigma.expand(x.shape[:-1]).shape).reshape(-1)[:_CHECKED]
        inner = AutogradDenoiser(replace(self, labels=labels))
        scale = float(rows.square().mean().sqrt()) or 1.0
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)).to(rows)
        for level in _CHECKED_LEVELS:
            levels = torch.full_like(rows[:, 0], level * scale)
            if not is_differentiated(inner, rows + levels[:, None] * noise, levels):
                raise GuidedModelError(NOT_DIFFERENTIATED)


def wrap_denoiser(
    function: Callable[..., Any],
    size: tuple[int, ...],
    *,
    num_classes: int = 0,
    dtype: torch.dtype | None = None,
    batch_size: int = BATCH_SIZE,
) -> Denoiser:
    """Return a denoiser of vectors around any callable.

    Args:
        function: called with x, ``(n, *size)``, images with values in [-1, 1] where clean, and
            sigma, (n,); if ``num_classes`` > 0 also with labels, int64 (n,) or None. It returns
            E[x0 | x]. A denoiser of dgray is returned as it is.
        size: shape of a sample, (d,) or (C, H, W).
        num_classes: number of classes; 0: unconditional.
        dtype: type of x and sigma in a call; None: that of the parameters of a torch module, else
            float32.
        batch_size: samples of a call, at most.

    Raises:
        GuidedModelError: the function cannot be called, or is a module whose dropout or batch
            statistics are active.
    """
    if isinstance(function, Denoiser):
        return function
    if not callable(function):
        raise GuidedModelError(
            f"a denoiser must be a function of (x, sigma), but got {one_line(repr(function), 60)}"
        )
    if isinstance(function, nn.Module):
        for name, layer in function.named_modules():
            if layer.training and isinstance(layer, _OF_TRAINING):
                raise GuidedModelError(
                    "a denoiser must be in evaluation mode, but its layer "
                    f"{name or 'itself'} ({type(layer).__name__}) is in training mode; call eval()"
                )
    if dtype is None:
        parameters = function.parameters() if isinstance(function, nn.Module) else iter(())
        dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
    return ChunkedDenoiser(UserDenoiser(function, size, dtype, num_classes), batch_size)


def from_epsilon(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    r"""Return the denoiser D = x - sigma eps(x; sigma) of a network that predicts the noise.

    Args:
        function: (x, sigma, ...) -> eps, of x = x0 + sigma eps (k-diffusion's convention).
    """

    def denoise(x: Tensor, sigma: Tensor, *labels: Tensor | None) -> Tensor:
        levels = sigma.reshape(-1, *[1] * (x.ndim - 1))
        return x - levels * function(x, sigma, *labels)

    return denoise
