"""Training and held-out loss against epochs: a panel per objective and facet."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dgray.reporting.figures.theme import by_value, grid, new_figure, number_ticks, title
from dgray.reporting.presentation import series_colour, series_title
from dgray.reporting.selection import facets, roles, trained, with_series
from dgray.reporting.table import StudyTable


class _Style(NamedTuple):
    label: str
    linestyle: Literal["-", ":"]
    linewidth: float
    marker: str


# The loss that training minimised (``LossPoint``: weighted, with other noise levels and dropout)
# is not shown, because only losses evaluated in the same way are comparable.
_STYLES = {
    "loss_held_out": _Style("held-out", "-", 1.5, "o"),
    "loss_train": _Style("training", ":", 1.0, "."),
}


def losses(table: StudyTable) -> Figure | None:
    """Draw the loss on training data (dotted) and on held-out data (solid)."""
    role = roles(table)
    models = trained(table.models).drop_duplicates(["trial", "epoch"])
    models = with_series(models[models["loss_held_out"].notna()], role.of_series)
    if models.empty or models["epoch"].nunique() < 2:
        return None
    panels = facets(models, role.of_facets)
    names = list(dict.fromkeys(models["series"]))
    figure = new_figure(len(panels), len(names), width=4.2, height=2.6)
    axes = grid(figure, len(panels), len(names))
    for row, (facet_name, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, names, strict=True):
            _panel(panel, facet[facet["series"] == name], role.capacity)
            title(panel, series_title(name), facet_name)
    _legend(figure, models, role.capacity)
    figure.suptitle("Loss of the discriminator on training and held-out data", fontsize=11)
    return figure


def _panel(axes: Axes, models: pd.DataFrame, capacity: str | None) -> None:
    if models.empty:  # this facet lacks the series
        axes.set_axis_off()
        return
    colour = series_colour(models["series"].iloc[0])
    for _, tint, of_size in by_value(models, capacity, colour):
        for _, lines in of_size.groupby("trial", sort=False):
            lines = lines.sort_values("epoch")
            for column, style in _STYLES.items():
                error = np.nan_to_num(lines[f"{column}_se"].to_numpy(float))
                axes.errorbar(
                    lines["epoch"], lines[column], yerr=error, color=tint, **_line(style)
                )
    number_ticks(axes, sorted(models["epoch"].unique()), log=True)
    axes.set_xlabel("epochs")
    axes.set_ylabel("nats")


def _line(style: _Style) -> dict[str, Any]:
    return {key: value for key, value in style._asdict().items() if key != "label"}


def _legend(figure: Figure, models: pd.DataFrame, capacity: str | None) -> None:
    dark = "#444444"
    handles = [
        Line2D([], [], color=dark, label=style.label, **_line(style)) for style in _STYLES.values()
    ]
    handles += [
        Line2D([], [], color=tint, linewidth=4, label=label)
        for label, tint, _ in by_value(models, capacity, dark)
        if label
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
