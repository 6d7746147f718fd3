"""A denoiser over large batches, some rows at a time, so that memory is that of one chunk.

It works row by row, so results differ from those of one batch by rounding at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgray.diffusion.denoiser import Conditional, Denoiser, with_labels

Rows = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # x, sigma, labels, probes


@dataclass(frozen=True)
class ChunkedDenoiser:
    """A denoiser, called on at most ``size`` rows at a time; without gradients."""

    inner: Denoiser
    size: int
    labels: Tensor | None = None

    @property
    def num_classes(self) -> int:
        """See ``Conditional``."""
        return self.inner.num_classes if isinstance(self.inner, Conditional) else 0

    def with_labels(self, labels: Tensor) -> ChunkedDenoiser:
        """See ``Conditional``."""
        return replace(self, labels=labels)

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Denoiser``."""
        (denoised,) = _by_chunk(
            lambda rows: (with_labels(self.inner, rows[2])(rows[0], rows[1]),),
            (x, sigma, self.labels, None),
            self.size,
        )
        return denoised

    def with_divergence(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Denoiser``."""
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
    """``function`` of every chunk of the rows, joined: outputs (..., d) or (...) as x or sigma."""
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
