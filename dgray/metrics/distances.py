"""Squared Euclidean distances of many points in many dimensions, a block of rows at a time.

In float64 by |a|^2 + |b|^2 - 2 a.b, which is exact for bytes. Knows torch; works where its
arguments are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**23  # distances in memory at a time: 64 MB


def distance_blocks(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the matrix of squared distances, >= 0, with which rows they are.

    Args:
        points: shape (n, d).
        others: shape (m, d), on the same device.

    Yields:
        Consecutive rows, and their squared distances to all others, float64, shape (rows, m).
    """
    points, others = points.double(), others.double()
    lengths = (others**2).sum(1)
    rows = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(points), rows):
        part = points[start : start + rows]
        squared = torch.addmm(lengths.expand(len(part), -1), part, others.T, alpha=-2)
        squared += (part**2).sum(1, keepdim=True)
        yield slice(start, start + len(part)), squared.clamp_(min=0)


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """Squared distance of each point to the nearest of the others, shape (n,)."""
    return torch.cat([squared.amin(1) for _, squared in distance_blocks(points, others)])


def nearest_index(points: Tensor, others: Tensor) -> Tensor:
    """Which of the others is nearest to each point, the first of equals; int64 (n,)."""
    return torch.cat([squared.argmin(1) for _, squared in distance_blocks(points, others)])


def check_points(first: Tensor, second: Tensor, least: int) -> None:
    """Refuse sets of points that cannot be compared.

    Raises:
        ValueError: they are not (n, d) and (m, d) with n, m >= least, or not all finite.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            "two sets of features must have shapes (n, d) and (m, d), but got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    if min(len(first), len(second)) < least:
        raise ValueError(
            f"this metric needs at least {least} samples and {least} references, but got "
            f"{len(second)} and {len(first)}"
        )
    if not (bool(torch.isfinite(first).all()) and bool(torch.isfinite(second).all())):
        raise ValueError("features must be finite, but some are nan or infinite")
