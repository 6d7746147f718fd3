"""Metrics against epochs: of all trials, and of the setting in which overfitting is strongest."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    band,
    by_value,
    legend_below,
    level,
    number_ticks,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.presentation import divergences, objective, series_title
from dgray.reporting.selection import (
    at_main_weight,
    at_weight,
    base_of,
    calibrated,
    facets,
    hardest,
    main_weight,
    number,
    plain,
    reference_of,
    roles,
    short,
    shown_columns,
    trained,
    weight_text,
    with_series,
)
from dgray.reporting.table import StudyTable


def metrics_against_epochs(table: StudyTable) -> Figure | None:
    """Draw a row per facet, a column per metric, a line per objective and capacity."""
    role = roles(table)
    models, weight = at_main_weight(table)
    models = with_series(trained(models), role.of_series)
    columns = shown_columns(table, models)
    if not columns or models["epoch"].nunique() < 2:
        return None
    panels = facets(models, role.of_facets)
    figure, axes = wrapped_grid(len(panels), len(columns), width=3.5, height=2.6)
    for row, (name, facet) in zip(axes, panels, strict=True):
        for panel, column in zip(row, columns, strict=True):
            _curves(panel, facet, column, role.capacity)
            _levels(panel, table, facet, column, weight)
            _finish(panel, table, facet, column, name)
    legend_below(figure, axes)
    figure.suptitle(f"{_subject(columns)} against epochs, {weight_text(weight)}", fontsize=11)
    return figure


def headline(table: StudyTable) -> Figure | None:
    """Draw overfitting at the largest capacity and the fewest real samples."""
    role = roles(table)
    models = hardest(plain(trained(table.models)), role.capacity)
    weight = main_weight(models)
    constant = with_series(at_weight(models, weight), role.of_series)
    columns = shown_columns(table, constant)
    if not columns or constant["epoch"].nunique() < 2:
        return None
    figure, axes = wrapped_grid(1, len(columns), width=3.5, height=3.1)
    tuned = with_series(calibrated(models), role.of_series)
    for panel, column in zip(axes[0], columns, strict=True):
        _curves(panel, constant, column, None, suffix=f", {weight_text(weight)}")
        if weight is not None:
            _curves(panel, tuned, column, None, ", calibrated", linestyle="--", marker="D")
        _levels(panel, table, constant, column, weight)
        _finish(panel, table, pd.concat([constant, tuned]), column, "")
    legend_below(figure, axes)
    fixed = [a for a in (role.capacity, *role.of_facets) if a]
    setting = ", ".join(f"{short(a)} {number(constant[a].iloc[0])}" for a in fixed)
    figure.suptitle(
        f"{_subject(columns)} against epochs" + (f" ({setting})" if setting else ""), fontsize=11
    )
    return figure


def _subject(columns: list[str]) -> str:
    is_known = columns[0] in divergences()
    return "KL divergence to the data" if is_known else "KL change and scores of samples"


def _curves(
    axes: Axes,
    models: pd.DataFrame,
    column: str,
    capacity: str | None,
    suffix: str = "",
    **style: str,
) -> None:
    for name, series in models.groupby("series", sort=False):
        spec = objective(series["objective"].iloc[0])
        for size, tint, lines in by_value(series, capacity, spec.colour, among=models):
            label = ", ".join(filter(None, [series_title(str(name)) + suffix, size]))
            lines = lines[lines[column].notna()].sort_values("epoch")
            look = {"marker": spec.marker} | style
            band(axes, lines, "epoch", column, color=tint, label=label, **look)


def _levels(
    axes: Axes, table: StudyTable, models: pd.DataFrame, column: str, weight: float | None
) -> None:
    level(axes, base_of(table, models), column)
    level(axes, reference_of(table, models, weight), column)
    floor = f"{column}_floor"
    if column in divergences() and floor in models and models[floor].notna().any():
        axes.axhline(
            models[floor].mean(), color="#AAAAAA", linewidth=1, label="floor of the estimate"
        )


def _finish(axes: Axes, table: StudyTable, models: pd.DataFrame, column: str, name: str) -> None:
    value_scale(axes, models[column])
    number_ticks(axes, sorted(models["epoch"].unique()), log=True)
    title(axes, table.title(column), name)
    axes.set_xlabel("epochs")
    axes.set_ylabel(table.unit(column))
