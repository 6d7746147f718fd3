"""Training against held-out loss over epochs: a panel per objective and data size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dgray.reporting.table import StudyTable
from dgray.reporting.theme import COLOURS, grid, name_of, new_figure, number_ticks, shade
from dgray.reporting.views import facets, number, roles, short, trained, with_series


def losses(table: StudyTable) -> Figure | None:
    """Thin: training loss as it ran. Thick with markers: held-out loss at the checkpoints."""
    role = roles(table)
    cells = trained(table.cells).drop_duplicates(["trial", "epoch"])
    cells = with_series(cells[cells["loss_held_out"].notna()], role.of_series)
    if cells.empty or cells["epoch"].nunique() < 2:
        return None
    panels = list(facets(cells, role.of_facets))
    names = list(dict.fromkeys(cells["series"]))
    figure = new_figure(len(panels), len(names), width=4.2, height=2.6)
    axes = grid(figure, len(panels), len(names))
    curves = _training_curves(table, cells)
    for row, (title, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, names, strict=True):
            _panel(panel, facet[facet["series"] == name], curves, role.capacity)
            panel.set_title("\n".join(filter(None, [name_of(name), title])))
    _legend(figure, cells, role.capacity)
    figure.suptitle("Loss of the discriminator on training and held-out data", fontsize=11)
    return figure


def _training_curves(table: StudyTable, cells: pd.DataFrame) -> pd.DataFrame:
    """Mean over replicates: the fine curve where it was kept, else the checkpoints' values."""
    fine = table.losses.groupby(["trial", "epoch"], sort=True)["loss_train"].mean().reset_index()
    known = set(fine["trial"])
    coarse = cells.loc[~cells["trial"].isin(known), ["trial", "epoch", "loss_train"]]
    return pd.concat([fine, coarse]).dropna()


def _panel(axes: Axes, cells: pd.DataFrame, curves: pd.DataFrame, capacity: str | None) -> None:
    sizes = sorted(cells[capacity].unique()) if capacity else [None]
    for trial, lines in cells.groupby("trial", sort=False):
        position = sizes.index(lines[capacity].iloc[0]) if capacity else 0
        colour = shade(COLOURS[lines["objective"].iloc[0]], position, len(sizes))
        curve = curves[curves["trial"] == trial].sort_values("epoch")
        axes.plot(curve["epoch"], curve["loss_train"], color=colour, linewidth=1, linestyle=":")
        lines = lines.sort_values("epoch")
        axes.errorbar(
            lines["epoch"],
            lines["loss_held_out"],
            yerr=np.nan_to_num(lines["loss_held_out_se"].to_numpy(float)),
            color=colour,
            marker="o",
        )
    number_ticks(axes, sorted(cells["epoch"].unique()), log=True)
    axes.set_xlabel("epochs")
    axes.set_ylabel("nats")


def _legend(figure: Figure, cells: pd.DataFrame, capacity: str | None) -> None:
    dark = "#444444"
    handles = [
        Line2D([], [], color=dark, marker="o", label="held-out"),
        Line2D([], [], color=dark, linestyle=":", linewidth=1, label="training"),
    ]
    sizes = sorted(cells[capacity].unique()) if capacity else []
    for position, size in enumerate(sizes):
        colour = shade(dark, position, len(sizes))
        label = f"{short(capacity or '')} {number(size)}"
        handles.append(Line2D([], [], color=colour, linewidth=4, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
