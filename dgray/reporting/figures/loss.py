"""Training against held-out loss over epochs: a panel per objective and data size."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dgray.reporting.figures.theme import COLOURS, grid, name_of, new_figure, number_ticks, shade
from dgray.reporting.table import StudyTable
from dgray.reporting.views import facets, number, roles, short, trained, with_series


class _Style(NamedTuple):
    label: str
    line: Literal["-", ":"]
    width: float
    marker: str


# The loss as it was optimised (``LossPoint``: weighted, other noise law, dropout) is not one of
# them: only losses that are evaluated in the same way can be compared.
_STYLES = {
    "loss_held_out": _Style("held-out", "-", 1.5, "o"),
    "loss_train": _Style("training", ":", 1.0, "."),
}


def losses(table: StudyTable) -> Figure | None:
    """Dotted: loss on training points. Solid: on held-out points. Both as they are evaluated."""
    role = roles(table)
    cells = trained(table.cells).drop_duplicates(["trial", "epoch"])
    cells = with_series(cells[cells["loss_held_out"].notna()], role.of_series)
    if cells.empty or cells["epoch"].nunique() < 2:
        return None
    panels = list(facets(cells, role.of_facets))
    names = list(dict.fromkeys(cells["series"]))
    figure = new_figure(len(panels), len(names), width=4.2, height=2.6)
    axes = grid(figure, len(panels), len(names))
    for row, (title, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, names, strict=True):
            _panel(panel, facet[facet["series"] == name], role.capacity)
            panel.set_title("\n".join(filter(None, [name_of(name), title])))
    _legend(figure, cells, role.capacity)
    figure.suptitle("Loss of the discriminator on training and held-out data", fontsize=11)
    return figure


def _panel(axes: Axes, cells: pd.DataFrame, capacity: str | None) -> None:
    sizes = sorted(cells[capacity].unique()) if capacity else [None]
    for _, lines in cells.groupby("trial", sort=False):
        position = sizes.index(lines[capacity].iloc[0]) if capacity else 0
        colour = shade(COLOURS[lines["objective"].iloc[0]], position, len(sizes))
        lines = lines.sort_values("epoch")
        for name, style in _STYLES.items():
            axes.errorbar(
                lines["epoch"],
                lines[name],
                yerr=np.nan_to_num(lines[f"{name}_se"].to_numpy(float)),
                color=colour,
                linestyle=style.line,
                linewidth=style.width,
                marker=style.marker,
            )
    number_ticks(axes, sorted(cells["epoch"].unique()), log=True)
    axes.set_xlabel("epochs")
    axes.set_ylabel("nats")


def _legend(figure: Figure, cells: pd.DataFrame, capacity: str | None) -> None:
    dark = "#444444"
    handles = [
        Line2D(
            [],
            [],
            color=dark,
            linestyle=style.line,
            linewidth=style.width,
            marker=style.marker,
            label=style.label,
        )
        for style in _STYLES.values()
    ]
    sizes = sorted(cells[capacity].unique()) if capacity else []
    for position, size in enumerate(sizes):
        colour = shade(dark, position, len(sizes))
        label = f"{short(capacity or '')} {number(size)}"
        handles.append(Line2D([], [], color=colour, linewidth=4, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
