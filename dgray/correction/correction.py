r"""Corrections of a base: a denoiser made from a denoiser, or a sampler made from a sampler.

A *correction* has a strength, the weight w: w = 0 is the base, bit for bit. Most are linear in it
(``dgray.correction.linear``):

    D_w(x; sigma) = D(x; sigma) + w(sigma) sigma^2 c(x; sigma),

so the score of D_w is the base's plus w c. c is grad d for guidance by a discriminator d, a free
vector field for ``residual``, (D' - D) / sigma^2 where another denoiser D' is approached, and
(D - D') / sigma^2 where it is moved away from. For a linear correction, the path KL of all weights
and the calibrated weight follow from one pass.

To add a correction, write

- one file in ``dgray/correction`` with its equation and source, and one ``CorrectionSpec`` in
  ``CORRECTIONS`` (``dgray/catalogue/parts.py``), whose attributes state what it needs;
- with ``needs_discriminator``: a factory ``(discriminator, **options)`` that returns a
  ``Correction`` by a trained discriminator of one replicate, or by a control such as the oracle.
  The discriminator is trained by ``fit.objective``;
- otherwise: a factory ``(inputs, generators, **options)`` that returns a ``CorrectionEnsemble``,
  trained by its own loss under the settings of ``fit`` (epochs over the real samples, AdamW);
- with ``is_sampler``: a ``SamplerCorrection``, which selects among samples of the base; its KL
  divergences are those of the base, changed by the tilt of the selected distribution.

Options are fields of the section ``correction`` of the study file (``dgray/config/correction.py``)
that the specification lists. Samples of the base are in ``Batch.generated`` if the specification
has ``needs_generated``. Corrections that train copies of the base's network start from
``dgray.correction.trained_networks``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor
from typing_extensions import override

from dgray.correction.acting import ActingDenoiser
from dgray.correction.selection import SelectionRule
from dgray.correction.weight import PerRowWeight, Weight
from dgray.data.images import Shape
from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.shapes import Scalars
from dgray.discriminator.discriminator import Discriminator, Trainable
from dgray.discriminator.objective import Batch


class Inputs(Protocol):
    """Inputs of the construction of a correction; a ``Problem`` is one."""

    @property
    def base(self) -> Denoiser:
        """Base to be corrected, of flat samples."""
        ...

    @property
    def shape(self) -> Shape | None:
        """(C, H, W) of images; None of points."""
        ...

    @property
    def dimension(self) -> int:
        """Number of values of a sample."""
        ...

    @property
    def sigma_data(self) -> float:
        """Scale of the data, > 0."""
        ...

    @property
    def span(self) -> tuple[float, float]:
        """Noise levels (sigma_min, sigma_max) of the study."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes of the data where a model is conditional; else 0."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        ...


@runtime_checkable
class Correction(Protocol):
    """Correction of a base in one replicate: a denoiser made from a denoiser.

    One whose networks read classes implements ``dgray.diffusion.denoiser.Conditional`` too.
    """

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Trained tensors, as of ``CorrectionEnsemble.tensors``; empty if nothing is trained."""
        return ()

    def denoiser(self, base: Denoiser, weight: Weight) -> Denoiser:
        """Return the corrected denoiser; where the weight is 0 it must return the base's values.

        Args:
            base: denoiser to be corrected, bound to the labels of the batch.
            weight: maps noise levels to weights. A batch may have another weight in each row.
        """
        ...


@runtime_checkable
class DiscriminatorCorrection(Correction, Protocol):
    """Correction that is made from a discriminator, which is scored too.

    Attributes:
        discriminator: discriminator of one replicate, or a control.
    """

    discriminator: Discriminator


@runtime_checkable
class SamplerCorrection(DiscriminatorCorrection, Protocol):
    """Correction that selects among samples of the base: a sampler made from a sampler.

    Its ``denoiser`` returns the base.
    """

    @override
    def denoiser(self, base: Denoiser, weight: Weight) -> Denoiser:
        del weight
        return base

    def rule(self, weight: float) -> SelectionRule:
        """Return the rule of selection; with weight 0 it must keep proposal number 0."""
        ...


class CorrectionEnsemble(Trainable, Protocol):
    """Corrections of R replicates, trained together.

    Its tensors carry a leading dimension R; batches are (R, N, d), or (1, N, d) for rows that all
    members share.
    """

    @override
    def member(self, index: int) -> Correction:
        """Return the correction of one of the R replicates."""
        ...

    def loss(self, batch: Batch) -> Scalars:
        """Return the training loss of each sample, shape (R, N).

        It must be differentiable by the tensors. Means over samples and noise levels, and the
        weighting of noise levels, are applied by the training. In nats and with the weighting
        ``likelihood`` a denoising error is |D - x0|^2 / sigma^2.
        """
        ...


CorrectionFactory = Callable[..., Any]
"""``(inputs, generators, **options)``: generators[r] alone draws the initial weights of member r.

With ``needs_discriminator``: ``(discriminator, **options)``, which returns a ``Correction``.
"""


@dataclass(frozen=True)
class CorrectedBatch:
    """Correction of one batch by several weights, so that they share the calls of the networks.

    Attributes:
        base: the denoiser to be corrected.
        correction: its correction.
        weights: W of them.
        weight_index: row i has the weight ``weights[weight_index[i]]``; int64, shape (N,).
        labels: classes, int64, shape (N,); None if no model is conditional.
    """

    base: Denoiser
    correction: Correction
    weights: Sequence[Weight]
    weight_index: Int64[Tensor, "N"]
    labels: Int64[Tensor, "N"] | None = None

    def select(self, index: Tensor) -> Denoiser:
        """Return the denoiser of the rows ``index`` of the batch, in their order."""
        labels = None if self.labels is None else self.labels[index]
        base, correction = with_labels(self.base, labels), with_labels(self.correction, labels)
        weight = PerRowWeight(self.weights, self.weight_index[index])
        return ActingDenoiser(base, correction, weight, labels)
