"""Which search a row belongs to and what became of its point: columns of ``report.parquet``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa

from dgray.reporting.search_table import CellPoints
from dgray.reporting.table import StudyTable

_COLUMNS = {
    "search": (pa.string(), "the search that asked for this trial; null: none did"),
    "point": (pa.int64(), "number of the point in its search"),
    "point_state": (pa.string(), "COMPLETE, PRUNED (stopped early), FAIL or RUNNING"),
}


def marked(table: StudyTable, searches: tuple[CellPoints, ...]) -> StudyTable:
    """The table with these columns; a grid's as it is."""
    if not searches:
        return table
    found: dict[str, tuple[Any, ...]] = {}
    for search in searches:
        points = search.points.dropna(subset=["trial"])
        for trial, number, state in zip(
            points["trial"], points["number"], points["state"], strict=True
        ):
            found.setdefault(trial, (search.label, int(number), state))
    nothing = (None,) * len(_COLUMNS)
    marks = pd.DataFrame(
        [found.get(trial, nothing) for trial in table.rows["trial"]],
        columns=list(_COLUMNS),
        index=table.rows.index,
        dtype=object,
    )
    schema = table.schema
    for name, (kind, doc) in _COLUMNS.items():
        schema = schema.append(pa.field(name, kind, metadata={"doc": doc, "kind": "identity"}))
    return replace(table, rows=pd.concat([table.rows, marks], axis=1), schema=schema)
