"""Studies of a control: every lens against its first axis, a line per value of the second."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    COLOURS,
    band,
    grid,
    legend_below,
    level,
    new_figure,
    number_ticks,
    shade,
    value_scale,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.views import (
    LENSES,
    at_weight,
    base_of,
    main_weight,
    number,
    plain,
    short,
)

_PANELS = {"cross_entropy_gap": "cross-entropy above its optimum", **LENSES}
_SPAN = 20.0  # of the horizontal axis, beyond which it is logarithmic


def control_lenses(table: StudyTable) -> Figure | None:
    """Cross-entropy hardly moves while the KL explodes: the oscillating control over its axes."""
    cells = plain(table.cells)
    weight = main_weight(cells)
    cells = at_weight(cells[cells["objective"] == "oscillating"], weight)
    axes_of_study = [
        a for a in table.axes if pd.api.types.is_numeric_dtype(cells[a]) and cells[a].nunique() > 1
    ]
    metrics = [metric for metric in _PANELS if cells[metric].notna().any()]
    if not axes_of_study or not metrics:
        return None
    first = axes_of_study[0]
    second = axes_of_study[1] if len(axes_of_study) > 1 else None
    figure = new_figure(1, len(metrics), width=3.1, height=2.9)
    axes = grid(figure, 1, len(metrics))
    for panel, metric in zip(axes[0], metrics, strict=True):
        _lines(panel, cells, metric, first, second)
        shown = cells[metric]
        base = base_of(table, cells)
        if metric in LENSES and base is not None:
            level(panel, base, metric, "base (unguided)", "base")
            shown = pd.concat([shown, pd.Series([base[metric]])])
        error = float(np.nan_to_num(cells[f"{metric}_se"].median()))
        value_scale(panel, shown.astype(float), zero=False, error=error)
        _finish(panel, cells, metric, first)
    legend_below(figure, axes)
    at = "calibrated weight" if weight is None else f"w = {weight:g}"
    figure.suptitle(f"The oscillating control at {at}", fontsize=11)
    return figure


def _lines(axes: Axes, cells: pd.DataFrame, metric: str, first: str, second: str | None) -> None:
    values = sorted(cells[second].unique()) if second else [None]
    for position, value in enumerate(values):
        lines = cells[cells[second] == value] if second else cells
        lines = lines[lines[metric].notna()].sort_values(first)
        label = f"{short(second)} {number(value)}" if second else "oscillating"
        colour = shade(COLOURS["oscillating"], position, len(values))
        band(axes, lines, first, metric, color=colour, label=label)


def _finish(axes: Axes, cells: pd.DataFrame, metric: str, first: str) -> None:
    ticks = np.sort(cells[first].unique())
    is_wide = bool(ticks[0] > 0 and ticks[-1] / ticks[0] > _SPAN)
    number_ticks(axes, ticks, log=is_wide or (len(ticks) > 2 and bool(ticks[0] > 0)))
    axes.set_title(_PANELS[metric])
    axes.set_xlabel(short(first))
    axes.set_ylabel("nats")
