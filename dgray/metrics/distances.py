"""Squared Euclidean distances of many points in many dimensions, computed in blocks of rows.

In float64 as |a|^2 + |b|^2 - 2 a.b, which is exact for bytes, on the device of the points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from dgray.errors import MetricError

BLOCK = 2**23  # distances in memory at a time: 64 MB


def distance_blocks(
    points: Shaped[Tensor, "n d"], others: Shaped[Tensor, "m d"]
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the matrix of squared distances in blocks of rows.

    Yields:
        Slice of consecutive rows, and their squared distances >= 0, float64, shape (rows, m).
    """
    points, others = points.double(), others.double()
    lengths = (others**2).sum(1)
    rows = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(points), rows):
        part = points[start : start + rows]
        squared = torch.addmm(lengths.expand(len(part), -1), part, others.T, alpha=-2)
        squared += (part**2).sum(1, keepdim=True)
        yield slice(start, start + len(part)), squared.clamp_(min=0)


def nearest(points: Shaped[Tensor, "n d"], others: Shaped[Tensor, "m d"]) -> Float64[Tensor, "n"]:
    """Return the squared distance of each point to the nearest of the others."""
    return torch.cat([squared.amin(1) for _, squared in distance_blocks(points, others)])


def nearest_index(
    points: Shaped[Tensor, "n d"], others: Shaped[Tensor, "m d"]
) -> Int64[Tensor, "n"]:
    """Return the index of the nearest of the others to each point, the first of equals."""
    return torch.cat([squared.argmin(1) for _, squared in distance_blocks(points, others)])


def check_points(reference: Tensor, samples: Tensor, least: int) -> None:
    """Check that two sets of points can be compared.

    Raises:
        MetricError: unless they are (n, d) and (m, d) with n, m >= least, and finite.
    """
    if reference.ndim != 2 or samples.ndim != 2 or reference.shape[1] != samples.shape[1]:
        raise MetricError(
            "two sets of features must have shapes (n, d) and (m, d), but got "
            f"{tuple(reference.shape)} and {tuple(samples.shape)}"
        )
    if min(len(reference), len(samples)) < least:
        raise MetricError(
            f"this metric needs at least {least} samples and {least} references, but got "
            f"{len(samples)} and {len(reference)}"
        )
    if not (bool(torch.isfinite(reference).all()) and bool(torch.isfinite(samples).all())):
        raise MetricError("features must be finite, but some are nan or infinite")
