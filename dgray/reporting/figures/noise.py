"""Where on the noise scale the error sits: score error and calibrated weight against sigma."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import COLOURS, grid, legend_below, name_of, new_figure
from dgray.reporting.table import StudyTable
from dgray.reporting.views import (
    NUM_REAL,
    at_weight,
    base_of,
    control_of,
    facets,
    last_epoch,
    main_weight,
    number,
    plain,
    roles,
    short,
    trained,
    with_series,
)


def score_error_by_noise(table: StudyTable) -> Figure | None:
    """Score error per noise level, and the calibrated weight, at the largest capacity."""
    role = roles(table)
    cells = last_epoch(plain(trained(table.cells)))
    cells = cells[cells["score_error_bins"].notna() & cells["sigma_edges"].notna()]
    if cells.empty:
        return None
    if role.capacity:
        cells = cells[cells[role.capacity] == cells[role.capacity].max()]
    cells = with_series(cells, role.of_series)
    weight = main_weight(cells)
    panels = list(facets(cells, role.of_facets))
    figure = new_figure(len(panels), 2, width=4.4, height=2.8)
    axes = grid(figure, len(panels), 2)
    for (left, right), (title, facet) in zip(axes, panels, strict=True):
        _errors(left, table, facet, weight)
        left.set_title("\n".join(filter(None, ["score error", title])))
        _weights(right, facet)
        right.set_title("\n".join(filter(None, ["calibrated weight", title])))
    legend_below(figure, axes)
    size = (
        f", {short(role.capacity)} {number(cells[role.capacity].iloc[0])}" if role.capacity else ""
    )
    figure.suptitle(f"Error of the score by noise level, last checkpoint{size}", fontsize=11)
    return figure


def loss_gap_by_noise(table: StudyTable) -> Figure | None:
    """Held-out minus training loss per noise level, at the fewest real samples."""
    role = roles(table)
    cells = last_epoch(trained(table.cells))
    cells = cells[cells["loss_held_out_bins"].notna() & cells["loss_train_bins"].notna()]
    cells = cells.drop_duplicates("trial")
    if cells.empty:
        return None
    if NUM_REAL in role.of_facets:
        cells = cells[cells[NUM_REAL] == cells[NUM_REAL].min()]
    cells = with_series(cells, role.of_series)
    names = list(dict.fromkeys(cells["series"]))
    figure = new_figure(1, len(names), width=4.2, height=2.9)
    axes = grid(figure, 1, len(names))
    for panel, name in zip(axes[0], names, strict=True):
        _gaps(panel, cells[cells["series"] == name], role.capacity)
        panel.set_title(name_of(name))
    legend_below(figure, axes)
    few = f", num_real {number(cells[NUM_REAL].iloc[0])}" if NUM_REAL in role.of_facets else ""
    figure.suptitle(
        f"Held-out minus training loss by noise level, last checkpoint{few}", fontsize=11
    )
    return figure


def _errors(axes: Axes, table: StudyTable, cells: pd.DataFrame, weight: float | None) -> None:
    base = base_of(table, cells)
    if base is not None:
        _bins(axes, base, label="base (unguided)", linestyle=(0, (5, 3)))
    for name, series in cells.groupby("series", sort=False):
        for _, cell in at_weight(series, weight).head(1).iterrows():
            at = "calibrated" if weight is None else f"w = {weight:g}"
            _bins(axes, cell, label=f"{name_of(str(name))}, {at}", linestyle="-")
        calibrated = series[series["is_calibrated"].astype(bool)]
        for _, cell in calibrated.head(1 if weight is not None else 0).iterrows():
            _bins(axes, cell, label=f"{name_of(str(name))}, calibrated", linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    oracle = at_weight(control_of(table, cells, "oracle"), weight)
    oracle = oracle[oracle["score_error_bins"].notna()]
    for _, cell in oracle.head(1).iterrows():
        # Rounding errors of an exact score would stretch the frame and squeeze everything else.
        if np.nanmax(cell["score_error_bins"]) > axes.get_ylim()[0] / 30:
            _bins(axes, cell, label="oracle", linestyle=(0, (1, 1.5)))
    axes.set_xlabel("noise level sigma")
    axes.set_ylabel("E|sigma × score error|²")


def _bins(axes: Axes, cell: pd.Series, *, label: str, linestyle: object) -> None:
    values, edges = cell["score_error_bins"], cell["sigma_edges"]
    if values is None or edges is None:
        return
    value = np.asarray(values, float)
    colour = COLOURS[cell["objective"]]
    middle = np.sqrt(np.asarray(edges)[:-1] * np.asarray(edges)[1:])
    positive = np.where(value > 0, value, np.nan)
    axes.plot(middle, positive, label=label, color=colour, linestyle=linestyle, marker=".")
    spread = cell["score_error_bins_se"]
    if spread is not None:
        low = np.maximum(value - spread, value / 10)
        axes.fill_between(middle, low, value + spread, color=colour, alpha=0.15, linewidth=0)


def _weights(axes: Axes, cells: pd.DataFrame) -> None:
    calibrated = cells[cells["is_calibrated"].astype(bool) & cells["calibrated_weights"].notna()]
    for _, series in calibrated.groupby("series", sort=False):
        cell = series.iloc[0]
        knots, weight = (
            np.asarray(cell["calibrated_sigmas"]),
            np.asarray(cell["calibrated_weights"]),
        )
        colour = COLOURS[cell["objective"]]
        axes.plot(knots, weight, color=colour, linestyle="--", marker=".")
        spread = cell["calibrated_weights_se"]
        if spread is not None:
            axes.fill_between(
                knots, weight - spread, weight + spread, color=colour, alpha=0.15, linewidth=0
            )
    axes.axhline(1, color="#BBBBBB", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("noise level sigma")
    axes.set_ylabel("w(sigma)")


def _gaps(axes: Axes, cells: pd.DataFrame, capacity: str | None) -> None:
    sizes = sorted(cells[capacity].unique()) if capacity else [None]
    for position, size in enumerate(sizes):
        lines = cells[cells[capacity] == size] if capacity else cells
        cell = lines.iloc[0]
        gap = np.asarray(cell["loss_held_out_bins"]) - np.asarray(cell["loss_train_bins"])
        edges = np.asarray(cell["sigma_edges"])
        label = f"{short(capacity)} {number(size)}" if capacity else "gap"
        grey = 0.75 * (1 - position / max(len(sizes) - 1, 1))
        width = 1.2 + 0.8 * position / max(len(sizes) - 1, 1)
        axes.plot(
            np.sqrt(edges[:-1] * edges[1:]),
            gap,
            color=(grey, grey, grey),
            linewidth=width,
            marker=".",
            label=label,
        )
    axes.axhline(0, color="#BBBBBB", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("noise level sigma")
    axes.set_ylabel("nats")
