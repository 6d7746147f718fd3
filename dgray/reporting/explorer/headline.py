"""The first figure of the interactive page, and the format of its numbers and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dgray.reporting.figures.epochs import floor_of
from dgray.reporting.figures.view import view
from dgray.reporting.legible import printable
from dgray.reporting.presentation import objective
from dgray.reporting.selection import (
    main_weight,
    plain,
    reference_of,
    shown_columns,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable

_DIGITS = 5  # significant digits of numbers on the page
_MAX_HEADLINE = 9  # panels of the first figure
_FLOOR = "color-mix(in oklab, var(--quiet) 50%, var(--paper))"


def headline(table: StudyTable, index: Mapping[str, int]) -> dict[str, Any] | None:
    """Return what the first figure shows: metrics of one trial of each series, by epoch."""
    models = plain(trained(table.models))
    weight = main_weight(models)
    at_weight = models if weight is None else models[models["guidance_weight"] == weight]
    columns = shown_columns(table, at_weight)[:_MAX_HEADLINE]
    if not columns:
        return None
    selected = view(table, models, columns=columns)
    trials = selected.models.drop_duplicates("trial")
    return {
        "metrics": columns,
        "weight": weight,
        "setting": setting_text(selected.models.iloc[0]),
        "trials": [index[trial] for trial in trials["trial"]],
        "series": [printable(series) for series in trials["series"]],
        "colours": [selected.looks[series].colour for series in trials["series"]],
        "held": printable(selected.held),
        "levels": [list(_levels(table, selected.models, c, weight)) for c in columns],
    }


def _levels(
    table: StudyTable, models: pd.DataFrame, column: str, weight: float | None
) -> Iterator[dict[str, Any]]:
    """Yield the levels beside that of the base: the exact control and the floor of an estimate."""
    exact = reference_of(table, models, weight)
    if exact is not None and np.isfinite(value := float(exact[column])):
        name = f"{objective(exact['objective']).title}, {weight_text(weight)}"
        yield {"name": name, "value": json_number(value), "colour": "var(--quiet)", "dash": [1, 3]}
    if (floor := floor_of(models, column)) is not None:
        name = "floor of the estimate"
        yield {"name": name, "value": json_number(floor), "colour": _FLOOR, "dash": [1, 0]}


def setting_text(row: pd.Series) -> str:
    """Return interval and stages of the guidance; empty for all noise levels and both stages."""
    parts = []
    if not pd.isna(row["interval_low"]):
        parts.append(f"sigma {row['interval_low']:g} to {row['interval_high']:g}")
    if row["guided_stage"] != "both":
        parts.append(f"{row['guided_stage']} only")
    return ", ".join(parts)


def json_number(value: Any) -> Any:
    """Return a number for JSON: an integer if it is whole, null if missing, a text if infinite."""
    if value is None or value != value:  # nan; ten times faster than np.isnan
        return None
    if value in (math.inf, -math.inf):
        return "inf" if value > 0 else "-inf"
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
