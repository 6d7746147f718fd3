"""Errors, losses and changes of the path KL by noise level, and the calibrated weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.data import middles, numbers_by_noise
from dgray.reporting.figures.looks import (
    BASE_LINE,
    CALIBRATED,
    CALIBRATED_MARKER,
    CONSTANT,
    EXACT_LINE,
    RULE,
)
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    grid,
    legend_below,
    log_scale,
    new_figure,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.figures.view import MAX_ROWS, MAX_SHADES, WIDEST, Line, View, view
from dgray.reporting.presentation import BASE, PATH_KL, objective
from dgray.reporting.selection import (
    at_weight,
    base_of,
    calibrated,
    last_epoch,
    main_weight,
    plain,
    reference_of,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable

_ERRORS, _CHANGES = "score_error_bins", "path_kl_change_bins"
_LOSSES = ("loss_train_bins", "loss_held_out_bins")


def score_error_by_noise(table: StudyTable) -> Drawing | None:
    """Draw the score error by noise level and the calibrated weight, at the largest capacity."""
    models = _with_bins(table, _ERRORS)
    if models.empty:
        return None
    weight = main_weight(models)
    shown = view(table, models, rows=MAX_ROWS, columns=[_ERRORS])
    panels = shown.panels()
    tuned = calibrated(shown.models)
    has_tuned = bool(tuned["calibrated_weights"].notna().any())
    figure = new_figure(len(panels), 1 + has_tuned, width=4.4, height=2.8)
    axes = grid(figure, len(panels), 1 + has_tuned)
    left_out = []
    for row, (name, facet) in zip(axes, panels, strict=True):
        left_out += _errors(row[0], table, shown, facet, weight)
        title(row[0], "score error", name)
        if has_tuned:
            _weights(row[1], shown, facet)
            title(row[1], "calibrated weight", name)
    legend_below(figure, axes)
    return drawing(
        figure,
        "Error of the score by noise level, last checkpoint",
        shown.held,
        f"{'Left: error' if has_tuned else 'Error'} of the guided score against the exact score; "
        "its integral over log sigma is the path KL without the prior term.",
        "Right: the calibrated guidance weight; 0 is the unguided base, 1 the full correction."
        if has_tuned
        else "",
        *(f"Not drawn, as it is far below the others: {text}." for text in sorted(set(left_out))),
        errors_note(shown.models, "Bands"),
        "The bands of the weight are the spread between replicates only."
        if tuned["calibrated_weights_se"].notna().any()
        else "",
        data=_score_numbers(table, shown, weight),
    )


def path_change_by_noise(table: StudyTable) -> Drawing | None:
    """Draw the change of the path KL by noise level, where the path KL itself is unknown."""
    models = _with_bins(table, _CHANGES)
    if models.empty or table.models[PATH_KL].notna().any():
        return None
    weight = main_weight(models)
    shown = view(table, models, rows=WIDEST, columns=[_CHANGES])
    panels = shown.panels()
    figure, axes = wrapped_grid(1, len(panels), width=4.4, height=3.0)
    for panel, (name, facet) in zip(axes[0], panels, strict=True):
        _curves(panel, shown, facet, _CHANGES, weight)
        panel.axhline(0, color=BASE.colour, linewidth=1, linestyle=BASE_LINE, label=BASE.title)
        value_scale(panel, pd.Series(np.concatenate(facet[_CHANGES].tolist()), dtype=float))
        _finish(panel, "nats per bin")
        title(panel, name)
    legend_below(figure, axes)
    return drawing(
        figure,
        "Change of the path KL by noise level, last checkpoint",
        shown.held,
        "Change of the held-out denoising error against the base in nats, by noise-level bin; the "
        "sum over the bins is the change of the path KL. Above zero, guidance is harmful at that "
        "noise level.",
        errors_note(shown.models, "Bands"),
        data=numbers_by_noise(table, shown.models, [_CHANGES]),
    )


def _score_numbers(table: StudyTable, shown: View, weight: float | None) -> pd.DataFrame:
    """Errors by bin, then calibrated weights by knot, which are at other noise levels."""
    levels = [
        level
        for _, facet in shown.panels()
        for level in (base_of(table, facet), reference_of(table, facet, weight))
    ]
    errors = numbers_by_noise(table, shown.models, [_ERRORS], levels)
    tuned = calibrated(shown.models)
    tuned = tuned[tuned["calibrated_weights"].notna()]
    weights = numbers_by_noise(
        table, tuned, ["calibrated_weights"], sigmas=lambda model: model["calibrated_sigmas"]
    )
    return pd.concat([errors, weights], ignore_index=True) if len(tuned) else errors


def loss_gap_by_noise(table: StudyTable) -> Drawing | None:
    """Draw held-out minus training loss by noise level, at the fewest real samples."""
    models = last_epoch(trained(table.models))
    models = models[models[[*_LOSSES]].notna().all(axis=1)]
    models = models.drop_duplicates("trial")
    if models.empty:
        return None
    shown = view(table, models, shades=MAX_SHADES)
    names = shown.series
    figure, axes = wrapped_grid(1, len(names), width=4.2, height=2.9)
    for panel, name in zip(axes[0], names, strict=True):
        of_series = shown.models[shown.models["series"] == name]
        for line in shown.lines(of_series, "sigma_edges", *_LOSSES):
            _gap(panel, line)
        panel.axhline(0, color=RULE, linewidth=1)
        _finish(panel, "nats")
        title(panel, name)
    legend_below(figure, axes)
    return drawing(
        figure,
        "Held-out minus training loss by noise level, last checkpoint",
        shown.held,
        "Above zero: overfitting at that noise level.",
        f"Darker lines: larger {shown.names[shown.capacity]}." if shown.capacity else "",
        data=numbers_by_noise(table, shown.models, _LOSSES, settings=False),
    )


def _with_bins(table: StudyTable, column: str) -> pd.DataFrame:
    """Trained models at the last checkpoint that have values by noise level in a column."""
    models = last_epoch(plain(trained(table.models)))
    return models[models[column].notna() & models["sigma_edges"].notna()]


def _errors(
    axes: Axes, table: StudyTable, shown: View, models: pd.DataFrame, weight: float | None
) -> list[str]:
    """Draw a panel of score errors; return what is left out of it."""
    base, exact = base_of(table, models), reference_of(table, models, weight)
    if base is not None:
        _bins(axes, base, _ERRORS, BASE.title, color=BASE.colour, linestyle=BASE_LINE)
    _curves(axes, shown, models, _ERRORS, weight)
    log_scale(axes, "y")
    left_out = []
    if exact is not None and exact[_ERRORS] is not None:
        spec = objective(exact["objective"])
        # Rounding errors of an exact score would extend the frame far below everything else.
        if np.nanmax(exact[_ERRORS]) > axes.get_ylim()[0] / 30:
            _bins(axes, exact, _ERRORS, spec.title, color=spec.colour, linestyle=EXACT_LINE)
        else:
            left_out = [spec.title]
    _finish(axes, "E|sigma × score error|²")
    return left_out


def _curves(
    axes: Axes, shown: View, models: pd.DataFrame, column: str, weight: float | None
) -> None:
    """Each trial at the main weight, and dashed at the calibrated one."""
    drawn = ("guidance_weight", "is_calibrated", "sigma_edges", column)
    errors = [name for name in (f"{column}_se",) if name in models]
    for line in shown.lines(models, *drawn, *errors):
        label = f"{line.label}, {weight_text(weight, 'calibrated')}"
        for _, model in at_weight(line.models, weight).iterrows():
            look = {"linestyle": CONSTANT, "marker": line.marker}
            _bins(axes, model, column, label, color=line.colour, **look)
        if weight is not None:
            for _, model in calibrated(line.models).iterrows():
                label = f"{line.label}, calibrated"
                _bins(axes, model, column, label, color=line.colour, **_TUNED)


_TUNED: Any = {
    "linestyle": CALIBRATED,
    "marker": CALIBRATED_MARKER,
    "markerfacecolor": "white",
    "markersize": 3.5,
}


def _bins(axes: Axes, model: pd.Series, column: str, label: str, **look: Any) -> None:
    """Values by noise level at the middle of each bin, with a band of one standard error."""
    values, edges, error = model[column], model["sigma_edges"], model.get(f"{column}_se")
    if values is None or edges is None:
        return
    value, middle = np.asarray(values, float), middles(edges)
    low = value - error if error is not None else value
    if column == _ERRORS:  # on a logarithmic scale
        low, value = np.maximum(low, value / 10), np.where(value > 0, value, np.nan)
    axes.plot(middle, value, label=label, **({"markersize": 3.5} | look))
    if error is not None:
        axes.fill_between(middle, low, value + error, color=look["color"], alpha=0.15, linewidth=0)


def _weights(axes: Axes, shown: View, models: pd.DataFrame) -> None:
    models = calibrated(models)
    drawn = ("calibrated_sigmas", "calibrated_weights", "calibrated_weights_se")
    for line in shown.lines(models[models["calibrated_weights"].notna()], *drawn):
        model = line.models.iloc[0]
        knots, weight = (
            np.asarray(model[name], float) for name in ("calibrated_sigmas", "calibrated_weights")
        )
        error = model["calibrated_weights_se"]
        axes.plot(knots, weight, color=line.colour, label=f"{line.label}, calibrated", **_TUNED)
        if error is not None:
            axes.fill_between(
                knots, weight - error, weight + error, color=line.colour, alpha=0.15, linewidth=0
            )
    axes.axhline(1, color=RULE, linewidth=1)
    _finish(axes, "w(sigma)")


def _gap(axes: Axes, line: Line) -> None:
    model = line.models.iloc[0]
    train, held_out = (np.asarray(model[name]) for name in _LOSSES)
    gap = held_out - train
    look: Any = {"color": line.colour, "marker": line.marker, "markersize": 3.5}
    axes.plot(middles(model["sigma_edges"]), gap, label=line.label, **look)


def _finish(axes: Axes, unit: str) -> None:
    log_scale(axes, "x")
    axes.set_xlabel("noise level sigma")
    axes.set_ylabel(unit)
