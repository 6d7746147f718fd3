"""Corrected denoiser that calls the correction only on the samples that it acts on.

Where the weight is 0 the corrected denoiser is the base, so that a correction in an interval of
noise levels, or one whose calibrated weight is 0, costs nothing elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from dgray.correction.weight import BlockWeight, PerRowWeight, Weight
from dgray.diffusion.denoiser import Denoiser, LevelDenoiser, NoiseLevels, levels_of, with_labels
from dgray.diffusion.likelihood import BATCH_MULTIPLE
from dgray.diffusion.shapes import Probes, Scalars, Vectors

if TYPE_CHECKING:
    from dgray.correction.correction import Correction

AnyCorrection = TypeVar("AnyCorrection", bound="Correction")


@dataclass(frozen=True)
class ActingDenoiser(Denoiser, LevelDenoiser, Generic[AnyCorrection]):
    """Base that is corrected where the weight is not 0.

    Attributes:
        base: denoiser to be corrected, bound to the labels.
        correction: its correction, likewise.
        weight: weight of each row.
        labels: classes of the rows, int64, of a shape that broadcasts to that of sigma; None: the
            models are bound to none.
        reads_weights: whether weights are read on every device, so that the correction is never
            called where they are 0.
    """

    base: Denoiser
    correction: AnyCorrection
    weight: Weight
    labels: Tensor | None = None
    reads_weights: bool = False

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the base."""
        return levels_of(self.base)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return D_w; on an accelerator the correction is called on all samples by default.

        Reading them waits for the device; samplers call ``at_level``.
        """
        is_read = self.reads_weights or sigma.device.type == "cpu"
        return self._corrected(x, sigma, _acting(self.weight(sigma)) if is_read else None)

    @override
    def at_level(self, x: Vectors, sigma: float) -> Vectors:
        levels = torch.full_like(x[..., 0], sigma)
        if isinstance(self.weight, PerRowWeight):
            return self(x, levels)
        weight = self.weight
        weights = weight.weights if isinstance(weight, BlockWeight) else (weight,)
        on_host = torch.tensor([sigma], dtype=x.dtype)
        acts = [bool(weight(on_host)) for weight in weights]
        rows, size = None, levels.numel() // len(acts)  # rows of a block
        if not all(acts):
            starts = [size * index for index, is_acting in enumerate(acts) if is_acting]
            blocks = [torch.arange(start, start + size, device=x.device) for start in starts]
            rows = torch.cat(blocks or [torch.arange(0, device=x.device)])
        return self._corrected(x, levels, rows)

    def _corrected(self, x: Tensor, sigma: Tensor, rows: Tensor | None) -> Tensor:
        """Return D_w; ``rows``: indices of the samples that the correction acts on, None: all."""
        if rows is None:
            return self.correction.denoiser(self.base, self.weight)(x, sigma)
        denoised = self.base(x, sigma)
        if not len(rows):
            return denoised
        some = _Rows.of(x, sigma, rows)
        base = self._stored(some, _taken(denoised, rows), None)
        return _placed(denoised, rows, self._denoiser(base, rows, sigma)(some.x, some.sigma))

    @override
    def with_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return D_w and its divergence.

        The caller is an adaptive integrator, which waits for the device at every step, so weights
        that can be 0 are read on every device.
        """
        is_read = sigma.device.type == "cpu" or self.weight.breaks
        rows = _acting(self.weight(sigma)) if is_read else None
        if rows is None:
            corrected = self.correction.denoiser(self.base, self.weight)
            return corrected.with_divergence(x, sigma, probes)
        denoised, divergence = self.base.with_divergence(x, sigma, probes)
        if not len(rows):
            return denoised, divergence
        count, rows = len(rows), _padded(rows, sigma.numel())
        some = _Rows.of(x, sigma, rows)
        stored = self._stored(some, _taken(denoised, rows), divergence.flatten()[rows])
        chosen = None if probes is None else probes.flatten(1, -2)[:, rows]
        values, traces = self._denoiser(stored, rows, sigma).with_divergence(
            some.x, some.sigma, chosen
        )
        rows = rows[:count]
        traces = _placed(divergence[..., None], rows, traces[:count, None])
        return _placed(denoised, rows, values[:count]), traces[..., 0]

    def _stored(self, rows: _Rows, denoised: Tensor, divergence: Tensor | None) -> _StoredBase:
        return _StoredBase(self.base, rows, denoised, divergence)

    def _denoiser(self, base: _StoredBase, rows: Tensor, sigma: Tensor) -> Denoiser:
        """Return the corrected denoiser of some rows of a batch."""
        correction, weight = self.correction, self.weight
        if self.labels is not None:
            labels = self.labels.expand(sigma.shape).flatten()[rows]
            correction = with_labels(correction, labels)
            base = base.with_labels(labels)
        if isinstance(weight, BlockWeight):
            index = rows // (sigma.numel() // len(weight.weights))
            weight = PerRowWeight(weight.weights, index)
        elif isinstance(weight, PerRowWeight):
            weight = PerRowWeight(weight.weights, weight.weight_index[rows])
        return correction.denoiser(base, weight)


@dataclass(frozen=True)
class _Rows:
    """Some rows of a batch, x (k, d) and sigma (k,)."""

    x: Tensor
    sigma: Tensor

    @staticmethod
    def of(x: Tensor, sigma: Tensor, rows: Tensor) -> _Rows:
        return _Rows(_taken(x, rows), sigma.flatten()[rows])


@dataclass(frozen=True)
class _StoredBase(Denoiser):
    """Base whose values on one batch are stored; elsewhere it is called."""

    inner: Denoiser
    rows: _Rows
    denoised: Tensor
    divergence: Tensor | None

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels of the base."""
        return levels_of(self.inner)

    def with_labels(self, labels: Tensor) -> _StoredBase:
        """Return the base bound to the labels of the rows; its stored values stay."""
        inner = with_labels(self.inner, labels)
        return _StoredBase(inner, self.rows, self.denoised, self.divergence)

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        is_stored = x is self.rows.x and sigma is self.rows.sigma
        return self.denoised if is_stored else self.inner(x, sigma)

    @override
    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        is_stored = x is self.rows.x and sigma is self.rows.sigma
        if is_stored and self.divergence is not None:
            return self.denoised, self.divergence
        return self.inner.with_divergence(x, sigma, probes)


def _acting(weight: Scalars) -> Tensor | None:
    """Return the indices of the samples whose weight is not 0; None: all of them."""
    acts = weight.flatten() != 0
    return None if bool(acts.all()) else acts.nonzero()[:, 0]


def _padded(rows: Tensor, total: int) -> Tensor:
    """Repeat the first row as in ``dgray.diffusion.likelihood``, so that rows keep their bits."""
    missing = -len(rows) % BATCH_MULTIPLE if total % BATCH_MULTIPLE == 0 else 0
    return torch.cat([rows, rows[:1].expand(missing)])


def _taken(x: Vectors, rows: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])[rows]


def _placed(values: Vectors, rows: Tensor, some: Tensor) -> Tensor:
    """Return the values with those of some rows replaced."""
    flat = values.reshape(-1, values.shape[-1])
    return flat.index_copy(0, rows, some).reshape(values.shape)
