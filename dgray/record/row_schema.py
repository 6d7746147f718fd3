"""Arrow schemas of the record types of ``row.py``: fields, nullability, meaning and unit.

The dataclass is the single source; nothing is listed twice. Knows pyarrow; neither torch nor Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from dgray.record.row import Cloud, LossPoint, Row

Record = Row | Cloud | LossPoint

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def arrow_schema(record: type[Record] = Row) -> pa.Schema:
    """Schema of a table of ``record``; a field's metadata holds its meaning, unit and kind."""
    hints = get_type_hints(record)
    return pa.schema(
        [_arrow_field(f.name, hints[f.name], f.metadata) for f in dataclasses.fields(record)]
    )


def to_table(records: Sequence[Record], record: type[Record]) -> pa.Table:
    """Records of one type as a table, in the order given."""
    schema = arrow_schema(record)
    columns = {name: [getattr(item, name) for item in records] for name in schema.names}
    return pa.table(columns, schema=schema)


def _arrow_field(name: str, hint: Any, metadata: Any) -> pa.Field:
    is_union = get_origin(hint) in (Union, UnionType)
    members = [m for m in get_args(hint) if m is not NoneType] if is_union else [hint]
    if len(members) != 1:
        raise TypeError(f"column {name}: one type, or one type or None, but got {hint}")
    nullable = is_union and NoneType in get_args(hint)
    notes = {key: str(value) for key, value in metadata.items() if value}
    return pa.field(name, _arrow_type(name, members[0]), nullable=nullable, metadata=notes)


def _arrow_type(name: str, hint: Any) -> pa.DataType:
    if get_origin(hint) is list:
        return pa.list_(_arrow_type(name, get_args(hint)[0]))
    if hint not in _SCALARS:
        raise TypeError(f"column {name}: str, int, float, bool or lists of them, but got {hint}")
    return _SCALARS[hint]
