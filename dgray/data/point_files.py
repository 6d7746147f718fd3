"""Tables of points in npz, CSV and Parquet files, read without executing anything. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgray.data.point_readers import READERS, Columns, listed
from dgray.data.split_orders import digests_of
from dgray.data.summary import (
    NO_CLASSES,
    DataSummary,
    class_counts,
    counted,
    examples,
    printable,
)
from dgray.errors import DataError, MissingFileError

MAX_DIMENSION = 4096
MAX_CLASSES = 1000  # more distinct values are no classes
MIN_POINTS = 5
LARGEST = 1e15  # networks compute in single precision


@dataclass(frozen=True)
class PointTable:
    """Points of a file, with remarks on what was skipped or changed.

    Attributes:
        name: name in messages and reports.
        values: points, float64 (N, d), finite.
        columns: name of each coordinate.
        labels: class of each point, int64 (N,); None: no classes.
        class_names: name of each class.
        remarks: what was skipped or changed.
    """

    name: str
    values: NDArray[np.float64]
    columns: tuple[str, ...]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def summary(self) -> DataSummary:
        """Number of points, dimension and classes."""
        counts = None
        if self.labels is not None:
            counts = class_counts(self.class_names, self.labels.tolist())
        remarks = [f"coordinates: {listed(self.columns)}", *self.remarks]
        digests = tuple(digests_of(np.ascontiguousarray(self.values)))
        different = len(set(digests))
        if different == len(digests):
            digests = ()
        else:
            number = counted(different, "different point")
            remarks.append(f"{number}; identical ones are in one split")
        shape = self.values.shape[1:]
        return DataSummary(
            self.name, len(self.values), shape, counts, tuple(remarks), digests=digests
        )


def survey_points(
    path: str,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    *,
    standardise: bool = True,
) -> DataSummary:
    """Return the summary of ``read_table`` with the same arguments."""
    return read_table(path, columns, label, standardise=standardise).summary


def read_table(
    path: str,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    *,
    standardise: bool = True,
) -> PointTable:
    """Read the points of a file.

    Args:
        path: npz (arrays of N numbers, or one of shape (N, d)), csv (a header, then numbers) or
            parquet; ~ is the home folder.
        columns: names of the coordinates; None: all columns of numbers but ``label``.
        label: name of the column, or array, of classes; None: no classes.
        standardise: shift and scale every coordinate to mean 0 and standard deviation 1 over all
            points of the file.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file has another format, a value is missing or not finite, a coordinate
            is constant, or a column is not there.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"{file}: must be a file of points, but there is no such file")
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise DataError(
            f"{file}: must end in {', '.join(READERS)}, but ends in {file.suffix or 'nothing'}"
        )
    table = reader(file)
    for name in [*(columns or ()), *([label] if label is not None else [])]:
        if name not in table:
            raise DataError(f"{file}: has no column {name!r}; it has {listed(tuple(table))}")
    if columns is not None:
        _check_chosen(file, table, columns)
    chosen, skipped = _coordinates(file, table, columns or _default_columns(table, label))
    values = _finite(file, chosen)
    labels, class_names, note = _classes(file, table, label)
    remarks = [note] if note else []
    if skipped:
        remarks.append(f"skipped columns without numbers: {examples(skipped)}")
    if unused := [n for n in table if n not in chosen and n not in skipped and n != label]:
        remarks.append(f"not used: {examples(unused)}")
    if standardise:
        values, remark = _standardised(file, values, tuple(chosen))
        remarks.append(remark)
    return PointTable(
        printable(file.stem),
        values,
        tuple(map(printable, chosen)),
        labels,
        class_names,
        tuple(remarks),
    )


def _default_columns(table: Columns, label: str | None) -> list[str]:
    """Return the columns of a matrix if there is one, else all, without the classes."""
    of_matrix = [name for name in table if name.endswith("]")]
    return [name for name in of_matrix or table if name != label]


def _check_chosen(file: Path, table: Columns, columns: Sequence[str]) -> None:
    """Refuse an explicit choice of coordinates that is empty, repeated or not of numbers."""
    if not columns:
        raise DataError(
            f"{file}: data.columns must name a column, but is empty; remove it for all"
        )
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(
                f"{file}: data.columns must name a column once, but names {name!r} "
                f"{columns.count(name)} times"
            )
        if table[name].dtype.kind not in "iufb":
            raise DataError(
                f"{file}: data.columns must name columns of numbers, but {name!r} holds none; "
                "remove it"
            )


def _coordinates(
    file: Path, table: Columns, names: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the columns of numbers by name, and the names of the others."""
    numeric = [n for n in names if table[n].dtype.kind in "iufb"]
    skipped = [n for n in names if n not in numeric]
    if not numeric:
        raise DataError(f"{file}: must have a column of numbers, but has none of them")
    if len(numeric) > MAX_DIMENSION:
        raise DataError(
            f"{file}: points must have at most {MAX_DIMENSION} coordinates, but have "
            f"{len(numeric)}; choose some with data.columns"
        )
    return {name: table[name] for name in numeric}, skipped


def _finite(file: Path, chosen: Columns) -> NDArray[np.float64]:
    lengths = {len(column) for column in chosen.values()}
    if len(lengths) != 1 or lengths.pop() < MIN_POINTS:
        sizes = ", ".join(f"{printable(n)} {len(c)}" for n, c in list(chosen.items())[:8])
        raise DataError(
            f"{file}: all columns must have the same number of points, at least {MIN_POINTS}, but "
            f"they have {sizes}"
        )
    values = np.stack([column.astype(np.float64) for column in chosen.values()], axis=1)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{file}: all values must be finite numbers, but {len(bad):,} are missing, nan or "
            f"infinite, the first in point {row + 1} of column "
            f"{printable(list(chosen)[column])!r}; remove those points"
        )
    if np.abs(values).max() > LARGEST:
        row, column = np.unravel_index(int(np.abs(values).argmax()), values.shape)
        raise DataError(
            f"{file}: all values must be at most {LARGEST:g} in size, but that of point "
            f"{row + 1} in column {printable(list(chosen)[column])!r} is {values[row, column]:g}; "
            "use other units, or remove the point"
        )
    return values


def _classes(
    file: Path, table: Columns, label: str | None
) -> tuple[NDArray[np.int64] | None, tuple[str, ...], str]:
    if label is None:
        return None, (), f"{NO_CLASSES}: data.label names no column"
    column = table[label]
    if column.ndim != 1 or column.dtype.kind not in "iubU":
        raise DataError(
            f"{file}: column {label!r} must hold whole numbers or text, one class a point, but "
            f"holds {column.dtype} of shape {column.shape}"
        )
    missing = np.flatnonzero(column == "") if column.dtype.kind == "U" else np.empty(0, np.intp)
    if len(missing):
        raise DataError(
            f"{file}: column {label!r} must hold one class a point, but {len(missing):,} are "
            f"missing, the first in point {missing[0] + 1}; remove those points"
        )
    names, labels = np.unique(column, return_inverse=True)
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{file}: column {label!r} must have at most {MAX_CLASSES} classes, but has "
            f"{len(names):,} different values"
        )
    if len(labels) != len(next(iter(table.values()))):
        raise DataError(f"{file}: column {label!r} must have one class a point")
    return labels.astype(np.int64), tuple(printable(str(name)) for name in names), ""


def _standardised(
    file: Path, values: NDArray[np.float64], names: tuple[str, ...]
) -> tuple[NDArray[np.float64], str]:
    mean, std = values.mean(0), values.std(0)
    floor = 1e-9 * np.maximum(np.abs(values).max(0), 1e-300)
    if (std <= floor).any():
        name = names[int(np.argmax(std <= floor))]
        raise DataError(
            f"{file}: column {printable(name)!r} must not be constant; leave it out with "
            "data.columns"
        )
    shift = float(np.log(std).sum())
    remark = (
        "standardised: every coordinate has mean 0 and standard deviation 1; in the units of the "
        f"file nll is higher by {shift:.4g} nats"
    )
    return (values - mean) / std, remark
