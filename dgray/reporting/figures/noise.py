"""Errors, losses and changes of the path KL by noise level, and the calibrated weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    DASHED,
    DOTTED,
    by_value,
    grid,
    legend_below,
    new_figure,
    title,
)
from dgray.reporting.presentation import BASE, PATH_KL, objective, series_title
from dgray.reporting.selection import (
    NUM_REAL,
    at_weight,
    base_of,
    calibrated,
    facets,
    last_epoch,
    main_weight,
    number,
    plain,
    reference_of,
    roles,
    short,
    trained,
    weight_text,
    with_series,
)
from dgray.reporting.table import StudyTable


def score_error_by_noise(table: StudyTable) -> Figure | None:
    """Draw the score error by noise level and the calibrated weight, at the largest capacity."""
    role = roles(table)
    models = _largest(table, "score_error_bins")
    if models.empty:
        return None
    weight = main_weight(models)
    panels = facets(models, role.of_facets)
    figure = new_figure(len(panels), 2, width=4.4, height=2.8)
    axes = grid(figure, len(panels), 2)
    for (left, right), (name, facet) in zip(axes, panels, strict=True):
        _errors(left, table, facet, weight)
        title(left, "score error", name)
        _weights(right, facet)
        title(right, "calibrated weight", name)
    legend_below(figure, axes)
    axis = role.capacity
    size = f", {short(axis)} {number(models[axis].iloc[0])}" if axis else ""
    figure.suptitle(f"Error of the score by noise level, last checkpoint{size}", fontsize=11)
    return figure


def path_change_by_noise(table: StudyTable) -> Figure | None:
    """Draw the change of the path KL by noise level, where the path KL itself is unknown."""
    models = _largest(table, "path_kl_change_bins")
    if models.empty or table.models[PATH_KL].notna().any():
        return None
    weight = main_weight(models)
    panels = facets(models, roles(table).of_facets)
    figure = new_figure(1, len(panels), width=4.4, height=3.0)
    axes = grid(figure, 1, len(panels))
    for panel, (name, facet) in zip(axes[0], panels, strict=True):
        _curves(panel, facet, "path_kl_change_bins", weight)
        panel.axhline(0, color="#888888", linewidth=1, label=BASE.title)
        panel.set_yscale("symlog", linthresh=0.1)
        _finish(panel, "nats per bin")
        panel.set_title(name)
    legend_below(figure, axes)
    figure.suptitle("Change of the path KL by noise level, last checkpoint", fontsize=11)
    return figure


def loss_gap_by_noise(table: StudyTable) -> Figure | None:
    """Draw held-out minus training loss by noise level, at the fewest real samples."""
    role = roles(table)
    models = last_epoch(trained(table.models))
    models = models[models["loss_held_out_bins"].notna() & models["loss_train_bins"].notna()]
    models = models.drop_duplicates("trial")
    if models.empty:
        return None
    if NUM_REAL in role.of_facets:
        models = models[models[NUM_REAL] == models[NUM_REAL].min()]
    models = with_series(models, role.of_series)
    names = list(dict.fromkeys(models["series"]))
    figure = new_figure(1, len(names), width=4.2, height=2.9)
    axes = grid(figure, 1, len(names))
    for panel, name in zip(axes[0], names, strict=True):
        _gaps(panel, models[models["series"] == name], role.capacity)
        panel.set_title(series_title(name))
    legend_below(figure, axes)
    few = f", num_real {number(models[NUM_REAL].iloc[0])}" if NUM_REAL in role.of_facets else ""
    figure.suptitle(
        f"Held-out minus training loss by noise level, last checkpoint{few}", fontsize=11
    )
    return figure


def _largest(table: StudyTable, column: str) -> pd.DataFrame:
    """Models with values by noise level in a column: last checkpoint, largest capacity."""
    role = roles(table)
    models = last_epoch(plain(trained(table.models)))
    models = models[models[column].notna() & models["sigma_edges"].notna()]
    if role.capacity and len(models):
        models = models[models[role.capacity] == models[role.capacity].max()]
    return with_series(models, role.of_series)


def _errors(axes: Axes, table: StudyTable, models: pd.DataFrame, weight: float | None) -> None:
    column = "score_error_bins"
    base = base_of(table, models)
    if base is not None:
        _bins(axes, base, column, label=BASE.title, linestyle=DASHED)
    _curves(axes, models, column, weight)
    axes.set_yscale("log")
    exact = reference_of(table, models, weight)
    # Rounding errors of an exact score would extend the frame far below everything else.
    lowest = axes.get_ylim()[0] / 30
    if exact is not None and exact[column] is not None and np.nanmax(exact[column]) > lowest:
        _bins(axes, exact, column, objective(exact["objective"]).title, DOTTED)
    _finish(axes, "E|sigma × score error|²")


def _curves(axes: Axes, models: pd.DataFrame, column: str, weight: float | None) -> None:
    """Each series at the main weight, and dashed at the calibrated one."""
    for name, series in models.groupby("series", sort=False):
        for _, model in at_weight(series, weight).head(1).iterrows():
            label = f"{series_title(str(name))}, {weight_text(weight, 'calibrated')}"
            _bins(axes, model, column, label, "-")
        for _, model in calibrated(series).head(1 if weight is not None else 0).iterrows():
            _bins(axes, model, column, f"{series_title(str(name))}, calibrated", "--")


def _bins(axes: Axes, model: pd.Series, column: str, label: str, linestyle: Any) -> None:
    """Values by noise level at the middle of each bin, with a band of one standard error."""
    values, edges, error = model[column], model["sigma_edges"], model.get(f"{column}_se")
    if values is None or edges is None:
        return
    colour = objective(model["objective"]).colour
    value, middle = np.asarray(values, float), _middles(edges)
    low = value - error if error is not None else value
    if column == "score_error_bins":  # on a logarithmic scale
        low, value = np.maximum(low, value / 10), np.where(value > 0, value, np.nan)
    axes.plot(middle, value, label=label, color=colour, linestyle=linestyle, marker=".")
    if error is not None:
        axes.fill_between(middle, low, value + error, color=colour, alpha=0.15, linewidth=0)


def _weights(axes: Axes, models: pd.DataFrame) -> None:
    models = calibrated(models)
    for _, series in models[models["calibrated_weights"].notna()].groupby("series", sort=False):
        model = series.iloc[0]
        knots, weight = (
            np.asarray(model[name]) for name in ("calibrated_sigmas", "calibrated_weights")
        )
        colour, error = objective(model["objective"]).colour, model["calibrated_weights_se"]
        axes.plot(knots, weight, color=colour, linestyle="--", marker=".")
        if error is not None:
            axes.fill_between(
                knots, weight - error, weight + error, color=colour, alpha=0.15, linewidth=0
            )
    axes.axhline(1, color="#BBBBBB", linewidth=1)
    _finish(axes, "w(sigma)")


def _gaps(axes: Axes, models: pd.DataFrame, capacity: str | None) -> None:
    for index, (label, tint, lines) in enumerate(by_value(models, capacity, "#000000")):
        model = lines.iloc[0]
        gap = np.asarray(model["loss_held_out_bins"]) - np.asarray(model["loss_train_bins"])
        axes.plot(
            _middles(model["sigma_edges"]),
            gap,
            color=tint,
            linewidth=1.2 + 0.4 * index,
            marker=".",
            label=label or "gap",
        )
    axes.axhline(0, color="#BBBBBB", linewidth=1)
    _finish(axes, "nats")


def _middles(edges: Any) -> np.ndarray:
    """Geometric middle of each noise-level bin."""
    return np.asarray(np.sqrt(np.asarray(edges)[:-1] * np.asarray(edges)[1:]))


def _finish(axes: Axes, unit: str) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("noise level sigma")
    axes.set_ylabel(unit)
