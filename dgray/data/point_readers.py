"""Readers of the columns of npz, CSV and Parquet files; nothing is executed. No torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgray.data.npz_arrays import plain_arrays
from dgray.data.summary import printable
from dgray.errors import DataError

MAX_CSV_BYTES = 2**31
MAX_VALUES = 2**28  # 2 GB
Columns = Mapping[str, NDArray[Any]]


def listed(names: Sequence[str]) -> str:
    """Return the names of some columns, as in ``a, b, ... (12)``."""
    shown = ", ".join(printable(name) for name in names[:8])
    return shown + (f", ... ({len(names)})" if len(names) > 8 else "")


def _read_npz(file: Path) -> Columns:
    columns: dict[str, NDArray[Any]] = {}
    arrays = plain_arrays(file)
    for name, array in arrays.items():
        if array.ndim == 2 and array.dtype.kind in "iufb":
            several = [f"{name}[{index}]" for index in range(array.shape[1])]
            columns |= dict(zip(several, array.T, strict=True))
        elif array.ndim == 1:
            columns[name] = array
    matrices = [n for n, a in arrays.items() if a.ndim == 2 and a.dtype.kind in "iufb"]
    if len(matrices) > 1:
        raise DataError(
            f"{file}: must hold one array of shape (N, d), but holds {listed(matrices)}"
        )
    if not columns:
        shapes = ", ".join(f"{printable(n)} {a.dtype} {a.shape}" for n, a in arrays.items())
        raise DataError(
            f"{file}: must hold an array of numbers of shape (N, d), or arrays of N numbers, but "
            f"holds {shapes or 'nothing'}"
        )
    return columns


def _read_csv(file: Path) -> Columns:
    if file.stat().st_size > MAX_CSV_BYTES:
        raise DataError(
            f"{file}: must have at most {MAX_CSV_BYTES / 2**30:g} GiB, but has "
            f"{file.stat().st_size / 2**30:.1f}; write it as Parquet or npz"
        )
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream, strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{file}: must be a CSV file in UTF-8: {error}") from error
    if not rows:
        raise DataError(f"{file}: must have a header and numbers, but is empty")
    header, rows = [name.strip() for name in rows[0]], rows[1:]
    if all(_number(name) is not None for name in header):
        raise DataError(
            f"{file}: the first line must name the columns, but holds numbers; add a line such as "
            f"{','.join(f'x{i + 1}' for i in range(min(len(header), 3)))}"
        )
    if len(header) == 1 and (mark := next((m for m in ";\t|" if m in header[0]), None)):
        raise DataError(
            f"{file}: values must be separated by commas, but the first line has {mark!r}; write "
            "the file with commas"
        )
    if "" in header:
        raise DataError(
            f"{file}: every column must have a name, but column {header.index('') + 1} has none; "
            "name it, or write the file without an index"
        )
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(
            f"{file}: the columns must have different names, but {printable(twice)!r} appears "
            f"{header.count(twice)} times; rename one"
        )
    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(
                f"{file}: every line must have {len(header)} values, but line {index + 2} has "
                f"{len(row)}"
            )
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in header]
    return {name: _column(file, name, texts) for name, texts in zip(header, columns, strict=True)}


def _column(file: Path, name: str, texts: Sequence[str]) -> NDArray[Any]:
    """Return numbers, nan where empty; text if most values are neither."""
    numbers = [math.nan if not text.strip() else _number(text) for text in texts]
    others = [index for index, number in enumerate(numbers) if number is None]
    if 2 * len(others) > len(texts):
        return np.array(texts, dtype=np.str_)
    if others:
        raise DataError(
            f"{file}: column {printable(name)!r} must hold numbers, but {len(others):,} of "
            f"{len(texts):,} values are not, the first in point {others[0] + 1}: "
            f"{printable(texts[others[0]][:40])!r}; remove those points, or choose other columns "
            "with data.columns"
        )
    values = np.array(numbers, dtype=np.float64)
    is_whole = len(values) > 0 and bool(np.all(values == np.floor(values)))
    is_whole = is_whole and bool(np.abs(values).max() < 2**53)
    return values.astype(np.int64) if is_whole else values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read_parquet(file: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(file)
        if about.num_rows * about.num_columns > MAX_VALUES:
            raise DataError(
                f"{file}: must have at most {MAX_VALUES:,} values, but has {about.num_rows:,} "
                f"rows of {about.num_columns:,} columns"
            )
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file}: must be a Parquet file, but is not: {reason}") from error
    columns: dict[str, NDArray[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if is_number or pa.types.is_boolean(kind):
            columns[name] = (column.cast(pa.float64()) if column.null_count else column).to_numpy()
        elif pa.types.is_decimal(kind):
            columns[name] = column.cast(pa.float64()).to_numpy()
        elif (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_dictionary(kind)
        ):
            texts = ["" if v is None else str(v) for v in column.to_pylist()]
            columns[name] = np.array(texts, dtype=np.str_)
        else:  # dates, lists and the like: neither coordinates nor classes
            columns[name] = np.empty(len(column), dtype=np.object_)
    if not columns:
        raise DataError(
            f"{file}: must have columns of numbers, but has {listed(table.schema.names)}"
        )
    return columns


READERS: Mapping[str, Callable[[Path], Columns]] = {
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
