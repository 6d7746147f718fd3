"""Metrics against the guidance weight at the last checkpoint, and at the calibrated weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.data import numbers
from dgray.reporting.figures.epochs import MAX_COLUMNS
from dgray.reporting.figures.looks import CALIBRATED_MARKER, RULE
from dgray.reporting.figures.style import current_style
from dgray.reporting.figures.theme import (
    Drawing,
    band,
    drawing,
    legend_below,
    level,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.figures.view import MAX_SHADES, Line, View, rows_for, view
from dgray.reporting.selection import (
    base_of,
    calibrated,
    last_epoch,
    plain,
    shown_columns,
    trained,
)
from dgray.reporting.table import StudyTable

_WIDTH = 0.08  # of the calibrated weights, as a share of the largest constant weight


def metrics_against_weight(table: StudyTable) -> Drawing | None:
    """Draw a row per facet, a panel per metric, a line per trial; weight 0 is the base."""
    models = last_epoch(plain(trained(table.models)))
    columns = shown_columns(table, models)[:MAX_COLUMNS]
    if not columns or models["guidance_weight"].nunique() < 2:
        return None
    shown = view(table, models, rows=rows_for(len(columns)), shades=MAX_SHADES, columns=columns)
    weights = sorted(shown.models["guidance_weight"].dropna().unique())
    has_tuned = bool(calibrated(shown.models)[columns].notna().any(axis=None))
    panels = shown.panels()
    figure, axes = wrapped_grid(len(panels), len(columns), width=3.5, height=2.6)
    for row, (name, facet) in zip(axes, panels, strict=True):
        base = base_of(table, facet)
        for panel, column in zip(row, columns, strict=True):
            _lines(panel, shown, facet, column, base)
            level(panel, base, column)
            value_scale(panel, facet[column])
            _ticks(panel, weights, has_tuned=has_tuned)
            title(panel, table.title(column), name)
            panel.set_xlabel("guidance weight")
            panel.set_ylabel(table.unit(column))
    legend_below(figure, axes)
    has_base = any(base_of(table, facet) is not None for _, facet in panels)
    return drawing(
        figure,
        "Metrics against the guidance weight, last checkpoint",
        shown.held,
        "One line per trial.",
        f"Darker lines: larger {shown.names[shown.capacity]}." if shown.capacity else "",
        "Every line starts at the base (weight 0)." if has_base else "",
        "Weight 1 is the exact correction if the discriminator is perfect.",
        "Diamonds at the right: the weight calibrated per noise level." if has_tuned else "",
        errors_note(shown.models),
        data=numbers(table, shown.models, columns, [base_of(table, facet) for _, facet in panels]),
    )


def _lines(
    axes: Axes, shown: View, models: pd.DataFrame, column: str, base: pd.Series | None
) -> None:
    drawn = ("guidance_weight", "is_calibrated", column, f"{column}_se")
    lines = list(shown.lines(models, *drawn))
    largest = models["guidance_weight"].max()
    for index, line in enumerate(lines):
        rows = line.models[line.models[column].notna()]
        constant = rows[rows["guidance_weight"].notna()].sort_values("guidance_weight")
        if len(constant):
            curve = _from_base(constant, base, column)
            look = {"color": line.colour, "label": line.label, "marker": line.marker}
            band(axes, curve, "guidance_weight", column, **look)
        offset = (index + 0.5) / len(lines) - 0.5
        _diamonds(axes, calibrated(rows), column, largest * (_aside() + _WIDTH * offset), line)


def _aside() -> float:
    """Return the place of the calibrated weights in multiples of the largest constant weight."""
    return 1.17 if current_style().width is None else 1.4


def _ticks(axes: Axes, weights: list[float], *, has_tuned: bool) -> None:
    aside = [_aside() * weights[-1]] if has_tuned else []
    name = "calib." if current_style().width is None else "cal."
    labels = [*(f"{w:g}" for w in [0, *weights]), *[name for _ in aside]]
    axes.set_xticks([0, *weights, *aside], labels)
    for place in aside:
        axes.axvline((weights[-1] + place) / 2, color=RULE, linewidth=0.8)
    axes.minorticks_off()


def _from_base(lines: pd.DataFrame, base: pd.Series | None, column: str) -> pd.DataFrame:
    """A curve that starts at weight 0, which is the base for every discriminator."""
    names = ["guidance_weight", column, f"{column}_se"]
    start = pd.DataFrame([base[names]] if base is not None else [], columns=names)
    return pd.concat([start, lines[names]]).astype(float)


def _diamonds(axes: Axes, models: pd.DataFrame, column: str, x: float, line: Line) -> None:
    for _, model in models.iterrows():
        error = model[f"{column}_se"]
        yerr = error if np.isfinite(error) else None
        axes.errorbar(
            x, model[column], yerr=yerr, fmt=CALIBRATED_MARKER, color=line.colour, markersize=4.5
        )
