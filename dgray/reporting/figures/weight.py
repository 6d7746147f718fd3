"""Metrics against the guidance weight at the last checkpoint, and at the calibrated weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    Color,
    band,
    by_value,
    legend_below,
    level,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.presentation import objective, series_title
from dgray.reporting.selection import (
    base_of,
    calibrated,
    facets,
    last_epoch,
    plain,
    roles,
    shown_columns,
    trained,
    with_series,
)
from dgray.reporting.table import StudyTable


def metrics_against_weight(table: StudyTable) -> Figure | None:
    """Draw a row per facet and a column per metric; weight 0 is the base."""
    role = roles(table)
    models = with_series(last_epoch(plain(trained(table.models))), role.of_series)
    columns = shown_columns(table, models)
    if not columns or models["guidance_weight"].nunique() < 2:
        return None
    panels = facets(models, role.of_facets)
    figure, axes = wrapped_grid(len(panels), len(columns), width=3.5, height=2.6)
    for row, (name, facet) in zip(axes, panels, strict=True):
        base = base_of(table, facet)
        for panel, column in zip(row, columns, strict=True):
            _lines(panel, facet, column, role.capacity, base)
            level(panel, base, column)
            value_scale(panel, facet[column])
            title(panel, table.title(column), name)
            panel.set_xlabel("guidance weight")
            panel.set_ylabel(table.unit(column))
    legend_below(figure, axes)
    figure.suptitle("Metrics against the guidance weight, last checkpoint", fontsize=11)
    return figure


def _lines(
    axes: Axes, models: pd.DataFrame, column: str, capacity: str | None, base: pd.Series | None
) -> None:
    weights = sorted(models["guidance_weight"].dropna().unique())
    aside = 1.17 * weights[-1]
    for index, (name, series) in enumerate(models.groupby("series", sort=False)):
        spec = objective(series["objective"].iloc[0])
        sizes = by_value(series, capacity, spec.colour, among=models)
        for position, (size, tint, lines) in enumerate(sizes):
            lines = lines[lines[column].notna()]
            label = ", ".join(filter(None, [series_title(str(name)), size]))
            constant = lines[lines["guidance_weight"].notna()].sort_values("guidance_weight")
            curve = _from_base(constant, base, column)
            look = {"color": tint, "label": label, "marker": spec.marker}
            band(axes, curve, "guidance_weight", column, **look)
            offset = 0.018 * aside * (index - 0.5 + (position - 1) * 0.7)
            _diamonds(axes, calibrated(lines), column, aside + offset, tint)
    axes.set_xticks([0, *weights, aside], [*(f"{w:g}" for w in [0, *weights]), "calib."])
    axes.axvline((weights[-1] + aside) / 2, color="#CCCCCC", linewidth=0.8)
    axes.minorticks_off()


def _from_base(lines: pd.DataFrame, base: pd.Series | None, column: str) -> pd.DataFrame:
    """A curve that starts at weight 0, which is the base for every discriminator."""
    names = ["guidance_weight", column, f"{column}_se"]
    start = pd.DataFrame([base[names]] if base is not None else [], columns=names)
    return pd.concat([start, lines[names]]).astype(float)


def _diamonds(axes: Axes, models: pd.DataFrame, column: str, x: float, colour: Color) -> None:
    for _, model in models.iterrows():
        error = model[f"{column}_se"]
        yerr = error if np.isfinite(error) else None
        axes.errorbar(x, model[column], yerr=yerr, fmt="D", color=colour, markersize=4.5)
