"""The table of a study: all rows of its run folder in one order, with a column per training axis.

``report.parquet`` is this table. Its order does not depend on the order in which trials finished:
the base, controls, then objectives in the order of the catalogue; within an objective by the
values of the axes; then by replicate, epoch and setting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dgray.catalogue import GUIDANCE
from dgray.errors import NoRowsError
from dgray.files import write_atomically
from dgray.record.row import Row
from dgray.record.row_schema import added_columns, arrow_schema
from dgray.reporting.aggregate import ModelKey, aggregate, merge_samplers
from dgray.reporting.legible import encodable
from dgray.reporting.presentation import (
    BASE,
    SELECTION,
    column_spec,
    metric_columns,
    objective_rank,
    sampler_rank,
    validation_columns,
)

CORRECTION = "correction.kind"  # axis that the column objective contains
_INCOMPLETE = "dgray.incomplete"
Result = TypeVar("Result")


@dataclass(frozen=True)
class StudyTable:
    """The rows, sample clouds and training losses of a study.

    Attributes:
        schema: schema of ``rows``, with the meaning, unit and kind of each column.
        axes: training axes (dotted paths), which are columns of ``rows``.
        selected: keys of the models that searches selected (see ``model_keys``); None for a grid.
    """

    rows: pd.DataFrame
    clouds: pd.DataFrame
    losses: pd.DataFrame
    schema: pa.Schema
    axes: tuple[str, ...]
    selected: frozenset[ModelKey] | None = None

    @cached_property
    def aggregated(self) -> pd.DataFrame:
        """One row per trial, epoch and setting: replicates averaged, with standard errors."""
        return aggregate(self.rows, self.axes, self.columns)

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row per guided model: ``aggregated`` with the metrics of all samplers together."""
        return merge_samplers(self.aggregated, self.axes).copy()  # one block for each dtype

    @property
    def model_kind(self) -> str:
        """Term for a model other than the base in sentences."""
        is_guided = self.rows["correction"].isin((GUIDANCE, BASE.name)).all()
        return "guided model" if is_guided else "corrected model"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of metrics in the order of presentation, without standard errors."""
        kinds = {field.name: (field.metadata or {}).get(b"kind") for field in self.schema}
        names = [name for name, kind in kinds.items() if kind == b"metric"]
        first = [name for name in (*metric_columns(), SELECTION) if name in names]
        errors = {f"{name}{end}" for name in names for end in ("_se", "_parts")}
        rest = [name for name in names if name not in {*first, *errors}]
        return (*first, *rest)

    @property
    def score_columns(self) -> tuple[str, ...]:
        """Columns of numbers that compare models: without counts, lists and validation columns.

        The column by which settings are selected is kept.
        """
        return tuple(
            name
            for name in self.columns
            if pa.types.is_floating(self.schema.field(name).type)
            and (name == SELECTION or name not in validation_columns())
        )

    @property
    def summary_columns(self) -> dict[str, str]:
        """Columns of the summary and their headings."""
        specs = {name: column_spec(self.schema.field(name)) for name in self.score_columns}
        return {name: spec.label for name, spec in specs.items() if spec.in_summary}

    @property
    def failures(self) -> pd.DataFrame:
        """One row per failed trial: its id, label and reason."""
        failed = self.rows[self.rows["status"] == "failed"]
        return failed.drop_duplicates("trial")[["trial", "label", "reason"]]

    def title(self, column: str) -> str:
        """Return the name of a column in figures and sentences."""
        return column_spec(self.schema.field(column)).title

    def unit(self, column: str) -> str:
        """Return the unit of a column; empty for a pure number."""
        return column_spec(self.schema.field(column)).unit


def per_table(function: Callable[[StudyTable], Result]) -> Callable[[StudyTable], Result]:
    """Compute a function once for each table; its result must not be changed."""
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def stored(table: StudyTable) -> Result:
        results = vars(table)  # as of a cached property
        if name not in results:
            results[name] = function(table)
        result: Result = results[name]
        return result

    return stored


def study_table(rows: pa.Table, clouds: pd.DataFrame, losses: pd.DataFrame) -> StudyTable:
    """Order the rows of a run folder and add their axes as columns.

    Raises:
        NoRowsError: if there are no rows.
    """
    if not rows.num_rows:
        raise NoRowsError("there are no rows yet; wait for the first checkpoint, or run the study")
    schema = arrow_schema(Row, added_columns(rows.schema))
    columns: dict[str, Any] = {
        field.name: rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)  # a column that is younger than the run
        for field in schema
    }
    if "correction" not in rows.column_names:
        names = rows["objective"].to_pylist()
        columns["correction"] = [BASE.name if name == BASE.name else GUIDANCE for name in names]
    texts = rows["axes"].to_pylist()
    values_of = {text: json.loads(text) for text in set(texts)}
    parsed = [values_of[text] for text in texts]
    axes = tuple(sorted({path for row in parsed for path in row} - {CORRECTION}))
    for path in axes:
        values = [_plain(row.get(path)) for row in parsed]
        field = _axis_field(path, values)
        schema = schema.append(field)
        columns[path] = _text(values) if field.type == pa.string() else values
    whole = pa.table(columns, schema=schema)
    del rows, columns, parsed  # each is as large as the frame
    frame = whole.to_pandas(self_destruct=True)
    return StudyTable(_ordered(frame, axes), clouds, losses, schema, axes)


def write_parquet(table: StudyTable, path: Path, incomplete: Sequence[str] = ()) -> None:
    """Write the whole table to one file, atomically.

    Args:
        table: the table.
        path: path of the file.
        incomplete: why rows are missing; the value of ``dgray.incomplete`` in the metadata of the
            schema, a JSON list.
    """
    schema = table.schema.with_metadata({_INCOMPLETE: json.dumps(list(incomplete))})
    data = pa.Table.from_pandas(table.rows, schema, preserve_index=False)
    write_atomically(path, lambda file: pq.write_table(data, file))


def _axis_field(path: str, values: list[object]) -> pa.Field:
    """The field of a training axis: integers, numbers, or otherwise text."""
    types = {type(value) for value in values if value is not None}
    kind = pa.string()
    if types and types <= {int, float}:
        kind = pa.int64() if types == {int} else pa.float64()
    doc = f"training axis {path}; null where the trial does not depend on it"
    return pa.field(path, kind, metadata={"doc": doc, "kind": "axis"})


def _ordered(rows: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    keys = pd.DataFrame(
        {
            "objective": _ranks(rows["objective"], objective_rank),
            **{path: rows[path] for path in axes},
            "trial": rows["trial"],
            "replicate": rows["replicate"],
            "epoch": rows["epoch"],
            "sampler": _ranks(rows["sampler"], sampler_rank),
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


def _ranks(names: pd.Series, rank: Callable[[str], int]) -> pd.Series:
    return names.map({name: rank(name) for name in names.unique()})


def _plain(value: object) -> object:
    """Lists and booleans of an axis as text, so that a column has one type."""
    if isinstance(value, str):
        return encodable(value)
    return json.dumps(value) if isinstance(value, list | dict | bool) else value


def _text(values: list[object]) -> list[str | None]:
    return [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
