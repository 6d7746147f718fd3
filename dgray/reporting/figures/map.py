"""The overfitting map: change of a KL divergence over epochs and capacity, per objective."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure

from dgray.reporting.estimate import minus
from dgray.reporting.figures.theme import CHANGE, SPAN, grid, new_figure, title
from dgray.reporting.presentation import divergences, series_title
from dgray.reporting.selection import (
    at_main_weight,
    facets,
    number,
    roles,
    short,
    trained,
    weight_text,
    with_series,
)
from dgray.reporting.table import StudyTable


def path_kl_map(table: StudyTable) -> Figure | None:
    """Draw the change of the path KL."""
    return _overfitting_map(table, "path_kl")


def kl_map(table: StudyTable) -> Figure | None:
    """Draw the change of the KL of the probability-flow ODE."""
    return _overfitting_map(table, "kl")


def _overfitting_map(table: StudyTable, metric: str) -> Figure | None:
    role = roles(table)
    models, weight = at_main_weight(table)
    models = trained(models)
    models = with_series(models[models[f"{metric}_change"].notna()], role.of_series)
    if models.empty:
        return None
    panels = facets(models, role.of_facets)
    series = list(dict.fromkeys(models["series"]))
    shown = models["epoch"].nunique()
    figure = new_figure(len(panels), len(series), width=max(2.6, 0.95 * shown + 1.3), height=2.5)
    axes = grid(figure, len(panels), len(series))
    norm = _norm(models[f"{metric}_change"].to_numpy(float))
    for row, (facet_name, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, series, strict=True):
            _panel(panel, facet[facet["series"] == name], metric, role.capacity, norm)
            title(panel, series_title(name), facet_name)
    bar = figure.colorbar(ScalarMappable(norm, CHANGE), ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("nats")
    bar.ax.set_title("harm", fontsize=8)
    bar.ax.set_xlabel("gain", fontsize=8)
    name = divergences()[metric].title
    figure.suptitle(f"Change of the {name} against the base at {weight_text(weight)}", fontsize=11)
    return figure


def _norm(values: np.ndarray) -> Normalize:
    size = np.abs(values[np.isfinite(values)])
    if not size.size or not size.max() > 0:
        return Normalize(-1, 1)
    top = float(size.max())
    if top <= SPAN * float(np.median(size)):
        return Normalize(-top, top)
    return SymLogNorm(linthresh=max(float(np.median(size)), top / 300), vmin=-top, vmax=top)


def _panel(
    axes: Axes, models: pd.DataFrame, metric: str, capacity: str | None, norm: Normalize
) -> None:
    epochs = sorted(models["epoch"].unique())
    sizes = sorted(models[capacity].unique()) if capacity else [None]
    if models.empty:  # this facet lacks the series
        axes.set_axis_off()
        return
    axes.set_xlim(-0.5, len(epochs) - 0.5)
    axes.set_ylim(-0.5, len(sizes) - 0.5)
    for _, model in models.iterrows():
        x = epochs.index(model["epoch"])
        y = sizes.index(model[capacity]) if capacity else 0
        _square(axes, x, y, float(model[f"{metric}_change"]), model[f"{metric}_change_se"], norm)
    axes.set_xticks(range(len(epochs)), [number(epoch) for epoch in epochs])
    axes.set_yticks(range(len(sizes)), [number(size) if capacity else "" for size in sizes])
    axes.set_xlabel("epochs")
    axes.set_ylabel(short(capacity) if capacity else "")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _square(axes: Axes, x: int, y: int, value: float, error: float, norm: Normalize) -> None:
    limit = norm.vmax if norm.vmax is not None else 1.0
    colour = CHANGE(norm(np.clip(np.nan_to_num(value, posinf=limit), -limit, limit)))
    axes.fill_between(
        [x - 0.48, x + 0.48], [y - 0.47, y - 0.47], [y + 0.47, y + 0.47], color=colour, linewidth=0
    )
    is_dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 0.55
    digits = 2
    if np.isfinite(error) and error > 0:
        digits = int(
            np.clip(-np.floor(np.log10(error)), 2, 4)
        )  # so that no number is rounded to zero
    text = minus(f"{value:+.{digits}f}") if np.isfinite(value) else "diverged"
    tone = "white" if is_dark else "#222222"
    axes.text(x, y + 0.1, text, ha="center", va="center", color=tone, fontsize=9.5)
    if np.isfinite(error):
        below = f"± {error:.{digits}f}"
        axes.text(x, y - 0.22, below, ha="center", va="center", color=tone, fontsize=7)
