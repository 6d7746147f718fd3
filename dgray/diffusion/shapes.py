"""Shapes of the tensors that denoisers, discriminators and samplers take and return.

mypy reads each as ``Tensor``. The tests also check them at run time: within one call, ``d`` and
``*batch`` have one value each.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

Vectors = Float[Tensor, "*batch d"]
"""Samples x, denoised samples and gradients; d = C H W of an image."""

Scalars = Float[Tensor, "*batch"]
"""Noise levels sigma > 0, logits and divergences: one number per sample."""

Labels = Int64[Tensor, "*batch"]
"""Classes from 0 to num_classes - 1, or -1 for no class."""

Probes = Float[Tensor, "num_probes *batch d"]
"""Vectors of +-1 for Hutchinson's estimate of a trace."""

Sigmas = Float[Tensor, "num_levels"]
"""Decreasing noise levels of a sampler, num_steps + 1 of them."""

StepNoise = Float[Tensor, "num_steps *batch d"]
"""Standard normal noise of each step of a stochastic sampler."""
