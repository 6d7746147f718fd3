"""Arrow schemas of the record types of ``row.py``: types, nullability, and what fields mean.

The metadata of a field of rows holds its presentation, so that a report can be written where the
package of a metric is not installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from dgray.catalogue import ColumnSpec
from dgray.record.row import Cloud, LossPoint, Row, row_columns

Record = Row | Cloud | LossPoint

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
_COLUMN_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "floats": pa.list_(pa.float64()),
}
_METADATA = ("doc", "unit", "kind", "label", "title", "source", "better")


def arrow_schema(record: type[Record] = Row, added: Sequence[ColumnSpec] = ()) -> pa.Schema:
    """Return the schema of a table of ``record``.

    Args:
        record: type of the records.
        added: columns of rows that belong to metrics of other packages.
    """
    return _schema(record, tuple(added))  # type: ignore[arg-type]  # types are hashable


@cache
def _schema(record: type[Record], added: tuple[ColumnSpec, ...]) -> pa.Schema:
    if record is Row:
        return pa.schema([_field_of_column(column) for column in row_columns(added)])
    hints = get_type_hints(record)
    return pa.schema([_arrow_field(f.name, hints[f.name]) for f in dataclasses.fields(record)])


def column_of(field: pa.Field) -> ColumnSpec:
    """Return the column that a field of a table of rows holds."""
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    types = {str(arrow): name for name, arrow in _COLUMN_TYPES.items()}
    return ColumnSpec(
        name=field.name,
        type=types[str(field.type)],  # type: ignore[arg-type]
        is_required=not field.nullable,
        has_error=False,
        **{"doc": "", **{key: metadata[key] for key in _METADATA if key in metadata}},
    )


def added_columns(schema: pa.Schema) -> tuple[ColumnSpec, ...]:
    """Return the columns of a table of rows that belong to metrics of other packages."""
    return tuple(column_of(field) for field in schema if field.name not in _built_in())


@cache
def _built_in() -> frozenset[str]:
    return frozenset(arrow_schema(Row).names)


def to_table(
    records: Sequence[Record], record: type[Record], added: Sequence[ColumnSpec] = ()
) -> pa.Table:
    """Return records of one type as a table, in the order given.

    Raises:
        ValueError: if a row has a metric without a column.
    """
    schema = arrow_schema(record, added)
    values = [item.columns() if isinstance(item, Row) else vars(item) for item in records]
    names = {name for item in values for name in item}
    if unknown := names - set(schema.names):
        raise ValueError(f"rows must have columns of the schema only, but got {sorted(unknown)}")
    columns = [
        pa.array([item.get(field.name) for item in values], field.type)
        if field.name in names
        else pa.nulls(len(values), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _field_of_column(column: ColumnSpec) -> pa.Field:
    values = {key: getattr(column, key) for key in _METADATA}
    metadata = {key: str(value) for key, value in values.items() if value}
    return pa.field(
        column.name,
        _COLUMN_TYPES[column.type],
        nullable=not column.is_required,
        metadata=metadata,
    )


def _arrow_field(name: str, hint: Any) -> pa.Field:
    is_union = get_origin(hint) in (Union, UnionType)
    members = [m for m in get_args(hint) if m is not NoneType] if is_union else [hint]
    if len(members) != 1:
        raise TypeError(f"column {name}: one type, or one type or None, but got {hint}")
    nullable = is_union and NoneType in get_args(hint)
    return pa.field(name, _arrow_type(name, members[0]), nullable=nullable)


def _arrow_type(name: str, hint: Any) -> pa.DataType:
    if get_origin(hint) is list:
        return pa.list_(_arrow_type(name, get_args(hint)[0]))
    if hint not in _SCALARS:
        raise TypeError(f"column {name}: str, int, float, bool or lists of them, but got {hint}")
    return _SCALARS[hint]
