"""Faster execution of the network of a base: compiled, in another memory layout, in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from dgray.diffusion.denoiser import Conditional, Denoiser, NoiseLevels, levels_of, with_labels
from dgray.diffusion.shapes import Labels, Scalars, Vectors

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class AutocastDenoiser(Denoiser, Conditional):
    """Denoiser whose convolutions and matrix products run in bfloat16.

    Everything else, the preconditioning included, stays in the precision of ``inner``. A trunk
    that is the encoder of its network is not affected.
    """

    inner: Denoiser

    @property
    @override
    def num_classes(self) -> int:
        return self.inner.num_classes if isinstance(self.inner, Conditional) else 0

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the inner denoiser."""
        return levels_of(self.inner)

    @property
    def facts(self) -> Any:
        """Facts about the network of the inner denoiser; None if it states none."""
        return getattr(self.inner, "facts", None)

    @property
    def module(self) -> nn.Module | None:
        """Network of the inner denoiser; None if it has none."""
        module: nn.Module | None = getattr(self.inner, "module", None)
        return module

    @override
    def with_labels(self, labels: Labels) -> AutocastDenoiser:
        return replace(self, inner=with_labels(self.inner, labels))

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        with torch.autocast(x.device.type, torch.bfloat16):
            denoised: Tensor = self.inner(x, sigma)
        return denoised.to(x.dtype)


def accelerate(
    base: Denoiser, *, is_compiled: bool, is_channels_last: bool, precision: Precision
) -> Denoiser:
    """Return a base whose network, if it has one, runs as requested; changes the network in place.

    Args:
        base: denoiser with the attribute ``module``, or any other.
        is_compiled: compile the network by ``torch.compile``; where that fails, for example
            without a C++ compiler, it runs uncompiled. Changes results by rounding.
        is_channels_last: store images and weights with the channels last, which tensor cores
            prefer. Changes results by rounding.
        precision: of convolutions and matrix products.
    """
    module = getattr(base, "module", None)
    if isinstance(module, nn.Module):
        if is_channels_last:
            module.to(memory_format=torch.channels_last)
        if is_compiled:
            module.compile(backend=_inductor_or_eager)
    return AutocastDenoiser(base) if precision == "bfloat16" else base


def _inductor_or_eager(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """Compile a graph by torch's default backend; without what that needs, run it as it is."""
    from torch._dynamo.backends.registry import lookup_backend  # slow to import

    try:
        compiled: Callable[..., Any] = lookup_backend("inductor")(copy.deepcopy(graph), inputs)
    except Exception:  # of any kind: compilers, their caches, operations that they lack
        return graph.forward
    return compiled
