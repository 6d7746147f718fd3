"""Metrics against epochs: of many trials, and of the setting in which overfitting is strongest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.data import numbers
from dgray.reporting.figures.looks import CALIBRATED, CALIBRATED_MARKER, CONSTANT, FLOOR
from dgray.reporting.figures.theme import (
    Drawing,
    band,
    drawing,
    legend_below,
    level,
    number_ticks,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.figures.view import MAX_SHADES, View, rows_for, view
from dgray.reporting.presentation import column_spec, divergences, objective
from dgray.reporting.selection import (
    at_main_weight,
    at_weight,
    base_of,
    calibrated,
    main_weight,
    plain,
    reference_of,
    shown_columns,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import listed

MAX_COLUMNS = 9  # metrics of a figure


def metrics_against_epochs(table: StudyTable) -> Drawing | None:
    """Draw a row per facet, a panel per metric, a line per trial."""
    models, weight = at_main_weight(table)
    models = trained(models)
    columns = shown_columns(table, models)[:MAX_COLUMNS]
    if not columns or not has_curves(models):
        return None
    shown = view(table, models, rows=rows_for(len(columns)), shades=MAX_SHADES, columns=columns)
    panels = shown.panels()
    figure, axes = wrapped_grid(len(panels), len(columns), width=3.5, height=2.6)
    for row, (name, facet) in zip(axes, panels, strict=True):
        for panel, column in zip(row, columns, strict=True):
            _curves(panel, shown, facet, column)
            _levels(panel, table, facet, column, weight)
            _finish(panel, table, facet, column, name)
    legend_below(figure, axes)
    return drawing(
        figure,
        f"{_subject(columns)} against epochs, {weight_text(weight)}",
        shown.held,
        "One line per trial.",
        f"Darker lines: larger {shown.names[shown.capacity]}." if shown.capacity else "",
        *_captions(table, shown.models, columns, weight),
        data=_numbers(table, shown, shown.models, columns, weight),
    )


def headline(table: StudyTable) -> Drawing | None:
    """Draw overfitting at the largest capacity and the fewest real samples."""
    models = plain(trained(table.models))
    weight = main_weight(models)
    columns = shown_columns(table, at_weight(models, weight))[:MAX_COLUMNS]
    if not columns or not has_curves(models):
        return None
    shown = view(table, models, columns=columns)
    constant = at_weight(shown.models, weight)
    tuned = calibrated(shown.models if weight is not None else shown.models.iloc[:0])
    figure, axes = wrapped_grid(1, len(columns), width=3.5, height=3.1)
    for panel, column in zip(axes[0], columns, strict=True):
        _curves(panel, shown, constant, column, suffix=f", {weight_text(weight)}")
        look = {"linestyle": CALIBRATED, "marker": CALIBRATED_MARKER, "markerfacecolor": "white"}
        _curves(panel, shown, tuned, column, suffix=", calibrated", **look)
        _levels(panel, table, constant, column, weight)
        _finish(panel, table, pd.concat([constant, tuned]), column, "")
    legend_below(figure, axes)
    has_tuned = len(tuned) and tuned[columns].notna().any(axis=None)
    return drawing(
        figure,
        f"{_subject(columns)} against epochs",
        shown.held,
        "One line per trial" + (" and weight." if has_tuned else "."),
        "Coloured dashes: the same models with the guidance weight calibrated on validation data."
        if has_tuned
        else "",
        *_captions(table, shown.models, columns, weight),
        data=_numbers(table, shown, pd.concat([constant, tuned]), columns, weight),
    )


def has_curves(models: pd.DataFrame) -> bool:
    """Return True if a trial has several checkpoints; with a budget, each often has one."""
    return bool((models.groupby("trial")["epoch"].nunique() > 1).any())


def _numbers(
    table: StudyTable,
    shown: View,
    models: pd.DataFrame,
    columns: Sequence[str],
    weight: float | None,
) -> pd.DataFrame:
    """The curves, and the base and the exact control of each facet as levels."""
    levels = [
        level
        for _, facet in shown.panels()
        for level in (base_of(table, facet), reference_of(table, facet, weight))
    ]
    floors = [f"{column}_floor" for column in columns if floor_of(models, column) is not None]
    return numbers(table, models, [*columns, *floors], levels)


def _subject(columns: Sequence[str]) -> str:
    is_known = columns[0] in divergences()
    return "KL divergence to the data" if is_known else "KL change and scores of samples"


def _curves(
    axes: Axes, shown: View, models: pd.DataFrame, column: str, suffix: str = "", **style: str
) -> None:
    for line in shown.lines(models, "epoch", column, f"{column}_se"):
        rows = line.models[line.models[column].notna()].sort_values("epoch")
        if len(rows):
            look = {"linestyle": CONSTANT, "marker": line.marker} | style
            band(axes, rows, "epoch", column, color=line.colour, label=line.label + suffix, **look)


def _levels(
    axes: Axes, table: StudyTable, models: pd.DataFrame, column: str, weight: float | None
) -> None:
    level(axes, base_of(table, models), column)
    level(axes, reference_of(table, models, weight), column)
    if (floor := floor_of(models, column)) is not None:
        axes.axhline(floor, color=FLOOR, linewidth=1, label="floor of the estimate")


def floor_of(models: pd.DataFrame, column: str) -> float | None:
    """Return the value of the estimate for fresh data in place of samples, if it has one."""
    name = f"{column}_floor"
    if column not in divergences() or name not in models or not models[name].notna().any():
        return None
    return float(models[name].mean())


def _captions(
    table: StudyTable, models: pd.DataFrame, columns: Sequence[str], weight: float | None
) -> Iterator[str]:
    """Sentences on the levels and bands of the panels."""
    base, exact = base_of(table, models), reference_of(table, models, weight)
    if base is not None and base[list(columns)].notna().any():
        specs = [column_spec(table.schema.field(column)) for column in columns]
        higher = [spec.title for spec in specs if spec.better == "higher"]
        below = f", or {listed(higher)} below it" if higher else ""
        yield (
            "Grey dashes: the unguided base. Guidance is harmful where a KL divergence or a "
            f"distance is above it{below}."
        )
    if exact is not None and exact[list(columns)].notna().any():
        yield f"Dotted: {objective(exact['objective']).title}, at {weight_text(weight)}."
    if floors := [column for column in columns if floor_of(models, column) is not None]:
        titles = listed([table.title(column) for column in floors])
        yield (
            f"Grey line: floor of the estimate of {titles}, that is its value for fresh data in "
            "place of samples."
        )
    errors = models[[f"{column}_se" for column in columns]].to_numpy(float)
    if np.isfinite(errors).any():
        yield errors_note(models, "Bands")


def _finish(axes: Axes, table: StudyTable, models: pd.DataFrame, column: str, name: str) -> None:
    value_scale(axes, models[column])
    number_ticks(axes, sorted(models["epoch"].unique()), log=True)
    title(axes, table.title(column), name)
    axes.set_xlabel("epochs")
    axes.set_ylabel(table.unit(column))
