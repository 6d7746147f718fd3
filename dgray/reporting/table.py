"""The table of a study: every row of its run folder, in one order, a column per training axis.

``report.parquet`` is this table. Its order does not depend on the order in which trials finished:
base, controls, cross-entropy, KL, mixed; within an objective by axis values; then replicate,
epoch, setting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dgray.catalogue import ColumnSpec
from dgray.errors import NoRowsError
from dgray.files import write_atomically
from dgray.record.row import Row
from dgray.record.row_schema import arrow_schema, column_of
from dgray.reporting.aggregate import aggregate, merge_samplers

OBJECTIVES = ("base", "oracle", "oscillating", "cross_entropy", "kl", "mixed")
SAMPLERS = ("ode", "churn", "sde")


@dataclass(frozen=True)
class StudyTable:
    """Everything a report is made of."""

    rows: pd.DataFrame
    clouds: pd.DataFrame
    losses: pd.DataFrame
    schema: pa.Schema
    axes: tuple[str, ...]

    @cached_property
    def metrics(self) -> tuple[ColumnSpec, ...]:
        """Columns of metrics, without those of standard errors."""
        columns = (column_of(f) for f in self.schema if f.metadata[b"kind"] == b"metric")
        return tuple(column for column in columns if not column.name.endswith("_se"))

    @cached_property
    def aggregated(self) -> pd.DataFrame:
        """Replicates averaged: a line per trial, epoch, setting; every metric with its error."""
        return aggregate(self.rows, self.axes, self.metrics)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Like ``aggregated``, with the lenses of all samplers side by side in one line."""
        return merge_samplers(self.aggregated, self.axes)

    @property
    def failures(self) -> pd.DataFrame:
        """One line per failed trial: label and reason."""
        failed = self.rows[self.rows["status"] == "failed"]
        return failed.drop_duplicates("trial")[["trial", "label", "reason"]]


def study_table(
    rows: pd.DataFrame,
    clouds: pd.DataFrame,
    losses: pd.DataFrame,
    added: Sequence[ColumnSpec] = (),
) -> StudyTable:
    """Return rows in the order of the report, with their axes as columns.

    Args:
        rows: table of rows of a run.
        clouds: its samples.
        losses: its training losses.
        added: columns of rows that belong to metrics of other packages.

    Raises:
        NoRowsError: if there are no rows yet.
    """
    if rows.empty:
        raise NoRowsError("there are no rows yet; wait for the first checkpoint, or run the study")
    parsed = [json.loads(text) for text in rows["axes"]]
    axes = tuple(sorted({path for row in parsed for path in row}))
    schema = arrow_schema(Row, added)
    absent = [None] * len(rows)  # a column that is younger than the run
    columns: dict[str, list[Any]] = {
        name: rows[name].tolist() if name in rows else absent for name in schema.names
    }
    for path in axes:
        values = [_plain(row.get(path)) for row in parsed]
        field = _axis_field(path, values)
        schema = schema.append(field)
        columns[path] = _text(values) if field.type == pa.string() else values
    frame = pa.Table.from_pandas(pd.DataFrame(columns), schema, preserve_index=False).to_pandas()
    return StudyTable(_ordered(frame, axes), clouds, losses, schema, axes)


def write_parquet(table: StudyTable, path: Path) -> None:
    """The whole table in one file, written beside and renamed."""
    data = pa.Table.from_pandas(table.rows, table.schema, preserve_index=False)
    write_atomically(path, lambda file: pq.write_table(data, file))


def _axis_field(path: str, values: list[object]) -> pa.Field:
    """The field of a training axis: whole numbers, numbers, or else text."""
    given = {type(value) for value in values if value is not None}
    kind = pa.string()
    if given and given <= {int, float}:
        kind = pa.int64() if given == {int} else pa.float64()
    doc = f"training axis {path}; null where it does not matter to the trial"
    return pa.field(path, kind, metadata={"doc": doc, "kind": "axis"})


def _ordered(rows: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    keys = pd.DataFrame(
        {
            "objective": [_rank(OBJECTIVES, value) for value in rows["objective"]],
            **{path: rows[path] for path in axes},
            "trial": rows["trial"],
            "replicate": rows["replicate"],
            "epoch": rows["epoch"],
            "sampler": [_rank(SAMPLERS, value) for value in rows["sampler"]],
            "num_steps": rows["num_steps"],
            "guided_stage": rows["guided_stage"],
            "interval_low": rows["interval_low"].fillna(-1),
            "interval_high": rows["interval_high"].fillna(-1),
            "is_calibrated": rows["is_calibrated"],
            "guidance_weight": rows["guidance_weight"],
        }
    )
    order = keys.sort_values(list(keys.columns), kind="stable", na_position="first").index
    return rows.loc[order].reset_index(drop=True)


def _rank(known: tuple[str, ...], value: str) -> int:
    return known.index(value) if value in known else len(known)


def _plain(value: object) -> object:
    """Lists and booleans of an axis become text, so that a column has one type."""
    return json.dumps(value) if isinstance(value, list | dict | bool) else value


def _text(values: list[object]) -> list[str | None]:
    return [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
