"""Training and held-out loss against epochs: a panel per series and facet."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.data import numbers
from dgray.reporting.figures.looks import CONSTANT, TRAINING, TRAINING_MARKER, shade
from dgray.reporting.figures.theme import (
    Drawing,
    add_legend,
    drawing,
    number_ticks,
    title,
    wrapped_grid,
)
from dgray.reporting.figures.view import MAX_SHADES, View, rows_for, value_text, view
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable


class _Style(NamedTuple):
    label: str
    linestyle: str
    linewidth: float
    marker: str


# The loss that training minimised (``LossPoint``: weighted, with other noise levels and dropout)
# is not shown, because only losses evaluated in the same way are comparable.
_STYLES = {
    "loss_held_out": _Style("held-out", CONSTANT, 1.5, "o"),
    "loss_train": _Style("training", TRAINING, 1.0, TRAINING_MARKER),
}
_DARK = "#444444"


def losses(table: StudyTable) -> Drawing | None:
    """Draw the loss on training data (dotted) and on held-out data (solid)."""
    models = trained(table.models).drop_duplicates(["trial", "epoch"])
    models = models[models["loss_held_out"].notna()]
    if models.empty or models["epoch"].nunique() < 2:
        return None
    shown = view(table, models, shades=MAX_SHADES)
    shown = view(table, models, rows=rows_for(len(shown.series)), shades=MAX_SHADES)
    panels, names = shown.panels(), shown.series
    figure, axes = wrapped_grid(len(panels), len(names), width=4.2, height=2.6)
    for row, (facet_name, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, names, strict=True):
            _panel(panel, shown, facet[facet["series"] == name])
            title(panel, name, facet_name)
    add_legend(figure, _legend(shown), columns=6)
    return drawing(
        figure,
        "Loss on training and held-out data",
        shown.held,
        "Dotted: loss on the training data. Solid: on held-out data. Both are evaluated at the "
        "checkpoints in the same way: unweighted, noise levels uniform in log sigma, without "
        "dropout. Where they diverge, the network overfits.",
        f"Darker lines: larger {shown.names[shown.capacity]}." if shown.capacity else "",
        "Losses of different objectives are not comparable." if len(names) > 1 else "",
        errors_note(shown.models, "Bars"),
        data=numbers(table, shown.models, list(_STYLES), settings=False),
    )


def _panel(axes: Axes, shown: View, models: pd.DataFrame) -> None:
    if models.empty:  # this facet lacks the series
        axes.set_axis_off()
        return
    drawn = [name for column in _STYLES for name in (column, f"{column}_se")]
    for line in shown.lines(models, "epoch", *drawn):
        rows = line.models.sort_values("epoch")
        for column, style in _STYLES.items():
            error = np.nan_to_num(rows[f"{column}_se"].to_numpy(float))
            axes.errorbar(
                rows["epoch"],
                rows[column],
                yerr=error,
                color=line.colour,
                linestyle=style.linestyle,
                linewidth=style.linewidth,
                marker=style.marker,
            )
    number_ticks(axes, sorted(models["epoch"].unique()), log=True)
    axes.set_xlabel("epochs")
    axes.set_ylabel("nats")


def _legend(shown: View) -> list[tuple[Line2D, str]]:
    handles = []
    for style in _STYLES.values():
        look: Any = style._asdict()
        label = look.pop("label")
        handles.append((Line2D([], [], color=_DARK, **look), label))
    sizes = sorted(shown.models[shown.capacity].unique()) if shown.capacity else []
    for position, size in enumerate(sizes):
        handle = Line2D([], [], color=shade(_DARK, position, len(sizes)), linewidth=4)
        handles.append((handle, f"{shown.names[str(shown.capacity)]} {value_text(size)}"))
    return handles
