"""Points of a file in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.data.point_files import read_table
from dgray.data.summary import DataSummary


@dataclass(frozen=True, eq=False)
class PointSet:
    """Points of one dimension, with or without classes.

    Attributes:
        content: points, float64 (N, d), on the CPU.
        labels: classes, int64 (N,); None: no classes.
        summary: what was read.
    """

    content: Tensor
    labels: Tensor | None
    summary: DataSummary

    @property
    def name(self) -> str:
        """Name in messages and reports."""
        return self.summary.name

    @property
    def noun(self) -> str:
        """Name of its samples, in the plural."""
        return "points"

    @property
    def is_test(self) -> None:
        """None: files of points have no test part."""
        return

    @property
    def num_classes(self) -> int:
        """Number of classes; 0: none."""
        return len(self.summary.classes or ())

    @property
    def sha256(self) -> str:
        """SHA-256 of shape, points and labels."""
        digest = hashlib.sha256(repr(tuple(self.content.shape)).encode())
        for values in (self.content, self.labels):
            digest.update(b"none" if values is None else values.contiguous().numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.content)


def read_points(
    path: str,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    *,
    standardise: bool = True,
) -> PointSet:
    """Return the points of a file, see ``dgray.data.point_files.read_table``."""
    table = read_table(path, columns, label, standardise=standardise)
    labels = None if table.labels is None else torch.from_numpy(table.labels)
    return PointSet(torch.from_numpy(table.values.copy()), labels, table.summary)
