"""Rows of one checkpoint as lists of values.

Event files need a few selections and means of a few rows, for every checkpoint of a running study;
data frames take ten times as long for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """Table of few rows.

    Attributes:
        columns: values by column; columns without values may be left out.
        size: number of rows.
    """

    columns: Mapping[str, Sequence[Any]]
    size: int

    @classmethod
    def of_table(cls, table: pa.Table) -> Rows:
        """Convert an Arrow table; a list of lists of numbers becomes an array."""
        columns = {
            name: _values(column)
            for name, column in zip(table.column_names, table.columns, strict=True)
            if column.null_count < table.num_rows
        }
        return cls(columns, table.num_rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.size

    def __getitem__(self, name: str) -> Sequence[Any]:
        """Return the values of a column, None where it has none."""
        return self.columns.get(name, (None,) * self.size)

    def present(self, name: str) -> list[Any]:
        """Return the values of a column that are neither missing nor NaN."""
        return [value for value in self[name] if not is_missing(value)]

    def mean(self, name: str) -> float | None:
        """Return the mean of the values of a column that are present; None without any."""
        values = self.present(name)
        return sum(map(float, values)) / len(values) if values else None

    def mean_of_lists(self, name: str) -> np.ndarray | None:
        """Return the mean of a column of lists, entry by entry; None without any."""
        lists = [np.asarray(value, float) for value in self.present(name)]
        return np.mean(lists, axis=0) if lists else None

    def where(self, keep: Iterable[bool]) -> Rows:
        """Select rows."""
        indices = [index for index, is_kept in enumerate(keep) if is_kept]
        return self if len(indices) == self.size else self.take(indices)

    def take(self, indices: Sequence[int]) -> Rows:
        """Select rows by their indices, in this order."""
        columns = {name: [v[i] for i in indices] for name, v in self.columns.items()}
        return Rows(columns, len(indices))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a dictionary."""
        for index in range(self.size):
            yield {name: values[index] for name, values in self.columns.items()}


def checkpoints(frame: pd.DataFrame) -> Iterator[tuple[str, int, Rows]]:
    """Yield trial, epoch and rows of each checkpoint of a frame, trial by trial."""
    present = {name: frame[name].to_numpy() for name in frame if frame[name].notna().any()}
    codes, trials = pd.factorize(frame["trial"])
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    for trial, indices in zip(trials, np.split(order, ends), strict=False):  # the last is empty
        rows = Rows({name: v[indices].tolist() for name, v in present.items()}, len(indices))
        by_epoch: dict[int, list[int]] = {}
        for index, epoch in enumerate(rows["epoch"]):
            by_epoch.setdefault(epoch, []).append(index)
        for epoch in sorted(by_epoch):
            yield str(trial), epoch, rows.take(by_epoch[epoch])


def is_missing(value: Any) -> bool:
    """Return whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and value != value)


def _values(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if not (pa.types.is_list(kind) and pa.types.is_list(kind.value_type)):
        values: list[Any] = column.to_pylist()
        return values
    points = [value.values for value in column]
    return [
        p if p is None else p.flatten().to_numpy(zero_copy_only=False).reshape(len(p), -1)
        for p in points
    ]
