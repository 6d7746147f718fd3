"""Studies of a control with parameters: metrics against the first, a line per value of the second.

A control can be near-optimal in cross-entropy while its gradient, and so its guidance, is wrong.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    SPAN,
    band,
    by_value,
    grid,
    legend_below,
    level,
    new_figure,
    number_ticks,
    value_scale,
)
from dgray.reporting.presentation import divergences, objective
from dgray.reporting.selection import at_main_weight, base_of, of_controls, short, weight_text
from dgray.reporting.table import StudyTable

_GAP = "cross_entropy_gap"


def control_metrics(table: StudyTable) -> Figure | None:
    """Draw the cross-entropy and the KL divergences of a control over its parameters."""
    models, weight = at_main_weight(table)
    models = of_controls(models, has_options=True)
    models = models[models["objective"] == models["objective"].iloc[0]] if len(models) else models
    numeric = [a for a in table.axes if pd.api.types.is_numeric_dtype(models[a])]
    parameters = [a for a in numeric if models[a].nunique() > 1]
    columns = [name for name in (_GAP, *divergences()) if models[name].notna().any()]
    if not parameters or not columns:
        return None
    spec = objective(models["objective"].iloc[0])
    first, second = parameters[0], next(iter(parameters[1:]), None)
    figure = new_figure(1, len(columns), width=3.1, height=2.9)
    axes = grid(figure, 1, len(columns))
    for panel, column in zip(axes[0], columns, strict=True):
        for label, tint, lines in by_value(models, second, spec.colour):
            lines = lines[lines[column].notna()].sort_values(first)
            band(panel, lines, first, column, color=tint, label=label or spec.title)
        shown = models[column]
        base = base_of(table, models)
        if column in divergences() and base is not None:
            level(panel, base, column)
            shown = pd.concat([shown, pd.Series([base[column]])])
        error = float(np.nan_to_num(models[f"{column}_se"].median()))
        value_scale(panel, shown.astype(float), zero=False, error=error)
        panel.set_title(
            "cross-entropy above its optimum" if column == _GAP else table.title(column)
        )
        _finish(panel, models, first)
    legend_below(figure, axes)
    figure.suptitle(f"{spec.title.capitalize()} at {weight_text(weight)}", fontsize=11)
    return figure


def _finish(axes: Axes, models: pd.DataFrame, parameter: str) -> None:
    ticks = np.sort(models[parameter].unique())
    is_wide = bool(ticks[0] > 0 and ticks[-1] / ticks[0] > SPAN)
    number_ticks(axes, ticks, log=is_wide or (len(ticks) > 2 and bool(ticks[0] > 0)))
    axes.set_xlabel(short(parameter))
    axes.set_ylabel("nats")
