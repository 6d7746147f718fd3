"""Studies of a control with parameters: metrics against the first, a line per value of the second.

Corrections that are made from the control, such as guidance and rejection, are lines of one panel.

A control can be near-optimal in cross-entropy while its gradient, and so its guidance, is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.data import numbers
from dgray.reporting.figures.theme import (
    SPAN,
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
from dgray.reporting.figures.view import MAX_SHADES, view
from dgray.reporting.presentation import divergences
from dgray.reporting.selection import at_main_weight, base_of, of_controls, weight_text
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import listed

_GAP = "cross_entropy_gap"


def control_metrics(table: StudyTable) -> Drawing | None:
    """Draw the cross-entropy and the KL divergences of a control over its parameters."""
    models, weight = at_main_weight(table)
    models = of_controls(models, has_options=True)
    columns = [name for name in (_GAP, *divergences()) if models[name].notna().any()]
    parameter = next(iter(_parameters(table, models)), None)
    if parameter is None or not columns:
        return None
    shown = view(
        table, models, shades=MAX_SHADES, free=(parameter,), among=models, columns=columns
    )
    figure, axes = wrapped_grid(1, len(columns), width=3.5, height=2.9)
    base = base_of(table, shown.models)
    for panel, column in zip(axes[0], columns, strict=True):
        for line in shown.lines(shown.models, parameter, column, f"{column}_se"):
            rows = line.models[line.models[column].notna()].sort_values(parameter)
            look = {"color": line.colour, "label": line.label, "marker": line.marker}
            band(panel, rows, parameter, column, **look)
        values = shown.models[column]
        if column in divergences() and base is not None:
            level(panel, base, column)
            values = pd.concat([values, pd.Series([base[column]])])
        error = float(np.nan_to_num(shown.models[f"{column}_se"].median()))
        value_scale(panel, values.astype(float), zero=False, error=error)
        title(panel, "cross-entropy above its optimum" if column == _GAP else table.title(column))
        _finish(panel, shown.models, parameter, shown.names[parameter])
    legend_below(figure, axes)
    drawn = [name for name in columns if name in divergences()]
    has_base = base is not None and bool(base[drawn].notna().any())
    return drawing(
        figure,
        f"{_subject(shown.series)} at {weight_text(weight)}",
        shown.held,
        f"A control of known gradient, over its {shown.names[parameter]}.",
        f"Corrections made from it: {listed(shown.series)}." if len(shown.series) > 1 else "",
        f"Darker lines: larger {shown.names[shown.capacity]}." if shown.capacity else "",
        "Its cross-entropy can be near the optimum while its gradient, and so the KL "
        "divergence of a model that is guided by it, is wrong."
        if _GAP in columns and drawn
        else "",
        "Grey dashes: the unguided base." if has_base else "",
        errors_note(shown.models, "Bands"),
        data=numbers(table, shown.models, columns, [base] if has_base else []),
    )


def _subject(series: Sequence[str]) -> str:
    """Return the name of the only series, or of all of them."""
    if len(series) > 1:
        return f"A control in {len(series)} corrections"
    return series[0][0].upper() + series[0][1:]


def _parameters(table: StudyTable, models: pd.DataFrame) -> list[str]:
    """Numeric axes that vary among the models but not among their bases."""
    bases = table.models[table.models["trial"].isin(models["base_trial"].dropna())]
    return [
        axis
        for axis in table.axes
        if pd.api.types.is_numeric_dtype(models[axis])
        and models[axis].nunique() > 1
        and not bases[axis].notna().any()
    ]


def _finish(axes: Axes, models: pd.DataFrame, parameter: str, name: str) -> None:
    ticks = np.sort(models[parameter].unique())
    is_wide = bool(ticks[0] > 0 and ticks[-1] / ticks[0] > SPAN)
    number_ticks(axes, ticks, log=is_wide or (len(ticks) > 2 and bool(ticks[0] > 0)))
    axes.set_xlabel(name)
    axes.set_ylabel("nats")
