"""Shapes of the tensors that denoisers, discriminators and samplers take and return.

They are documentation, which mypy reads as ``Tensor``; the tests check them at run time, where in
one call ``d`` and ``*batch`` have one value each.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

Vectors = Float[Tensor, "*batch d"]
"""Samples x, denoised samples, gradients: d numbers each (d = C H W of an image)."""

Scalars = Float[Tensor, "*batch"]
"""Noise levels sigma > 0, logits, divergences: a number per sample."""

Labels = Int64[Tensor, "*batch"]
"""Classes from 0 to num_classes - 1, or -1 for no class."""

Probes = Float[Tensor, "num_probes *batch d"]
"""Vectors of +-1 for Hutchinson's estimate of a trace."""
