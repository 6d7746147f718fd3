"""The overfitting map: change of a KL divergence over epochs and capacity, per series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from dgray.reporting.estimate import minus
from dgray.reporting.figures.data import numbers
from dgray.reporting.figures.looks import CHANGE, Color
from dgray.reporting.figures.style import points
from dgray.reporting.figures.theme import (
    SPAN,
    Drawing,
    drawing,
    plain_number,
    title,
    wrapped_grid,
)
from dgray.reporting.figures.view import View, rows_for, spaced, value_text, view
from dgray.reporting.presentation import PATH_KL, divergences
from dgray.reporting.selection import at_main_weight, number, trained, weight_text
from dgray.reporting.table import StudyTable

_SQUARE, _ASIDE = 0.6, 1.0  # inches of a number and its error, and beside the squares of a panel
_MAX_EPOCHS, _MAX_SIZES = 6, 6  # squares of a panel, so that their numbers are legible


def path_kl_map(table: StudyTable) -> Drawing | None:
    """Draw the change of the path KL."""
    return _overfitting_map(table, PATH_KL)


def kl_map(table: StudyTable) -> Drawing | None:
    """Draw the change of the KL of the probability-flow ODE."""
    return _overfitting_map(
        table,
        "kl",
        "It is that of the distribution which the deterministic sampler generates. It can be more "
        "sensitive to wrong gradients than the path KL, because no added noise averages them out.",
    )


def _overfitting_map(table: StudyTable, metric: str, remark: str = "") -> Drawing | None:
    models, weight = at_main_weight(table)
    models = trained(models)
    column = f"{metric}_change"
    models = models[models[column].notna()]
    if models.empty:
        return None
    by_method = {name: sorted(own.unique()) for name, own in models.groupby("objective")["epoch"]}
    every_epoch = max(by_method.values(), key=len)  # with a budget, methods have other epochs
    epochs = spaced(every_epoch, _MAX_EPOCHS)
    kept = {name: spaced(own, _MAX_EPOCHS) for name, own in by_method.items()}
    pairs = zip(models["objective"], models["epoch"], strict=True)
    models = models[[epoch in kept[name] for name, epoch in pairs]]
    series = view(table, models, shades=_MAX_SIZES).series
    shown = view(table, models, rows=rows_for(len(series)), shades=_MAX_SIZES, columns=[column])
    panels = shown.panels()
    sizes = shown.models[shown.capacity].nunique() if shown.capacity else 1
    width, height = max(2.6, 0.95 * len(epochs) + 1.3), max(1.6, 0.5 * sizes + 1.1)
    figure, axes = wrapped_grid(len(panels), len(series), width=width, height=height)
    norm = change_norm(shown.models[column].to_numpy(float))
    for row, (facet_name, facet) in zip(axes, panels, strict=True):
        for panel, name in zip(row, series, strict=True):
            own = shown.models.loc[shown.models["series"] == name, "epoch"]
            _panel(panel, shown, facet[facet["series"] == name], metric, (own, norm))
            title(panel, name, facet_name)
    bar = figure.colorbar(ScalarMappable(norm, CHANGE), ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("nats")
    bar.formatter = FuncFormatter(plain_number)
    bar.update_ticks()
    bar.ax.set_title("harm", fontsize=points(8))
    bar.ax.set_xlabel("gain", fontsize=points(8))
    has_errors = np.isfinite(shown.models[f"{column}_se"].to_numpy(float)).any()
    error = ", ± one standard error, paired over the same points" if has_errors else ""
    name = divergences()[metric].title
    subset = f"{len(epochs)} of {len(every_epoch)} checkpoints"
    is_part = len(epochs) < len(every_epoch)
    return drawing(
        figure,
        f"Change of the {name} against the base at {weight_text(weight)}",
        ", ".join(filter(None, [shown.held, subset if is_part else ""])),
        "Each square is one trial at one checkpoint. Its number is the change of the "
        f"{name} against the base in nats{error}. Green: a lower KL divergence than that of the "
        f"base. Crimson: a higher one. {remark}".strip(),
        data=numbers(table, shown.models, [column]),
    )


def change_norm(values: np.ndarray) -> Normalize:
    """Return the scale of colours of changes, symmetric about 0, logarithmic if they span much."""
    size = np.abs(values[np.isfinite(values)])
    if not size.size or not size.max() > 0:
        return Normalize(-1, 1)
    top = float(size.max())
    if top <= SPAN * float(np.median(size)):
        return Normalize(-top, top)
    return SymLogNorm(linthresh=max(float(np.median(size)), top / 300), vmin=-top, vmax=top)


def _panel(
    axes: Axes,
    shown: View,
    models: pd.DataFrame,
    metric: str,
    scales: tuple[pd.Series, Normalize],
) -> None:
    """Draw the squares of one series; ``scales``: its epochs, and the colours."""
    if models.empty:  # this facet lacks the series
        axes.set_axis_off()
        return
    capacity = shown.capacity
    own, norm = scales
    epochs = sorted(own.unique())
    sizes = sorted(shown.models[capacity].unique()) if capacity else [None]
    axes.set_xlim(-0.5, len(epochs) - 0.5)
    axes.set_ylim(-0.5, len(sizes) - 0.5)
    columns = [models["epoch"].map(epochs.index)]
    columns += [models[capacity].map(sizes.index) if capacity else 0 * columns[0]]
    columns += [models[f"{metric}_change{end}"].astype(float) for end in ("", "_se")]
    squares = [*zip(*columns, strict=True)]
    colours = [_colour(value, norm) for *_, value, _ in squares]
    shapes = [Rectangle((x - 0.48, y - 0.47), 0.96, 0.94) for x, y, *_ in squares]
    axes.add_collection(PatchCollection(shapes, facecolors=colours, linewidth=0))
    size = points(9.5) * min(1.0, _square_width(axes) / points(_SQUARE))
    for (x, y, value, error), colour in zip(squares, colours, strict=True):
        _numbers(axes, x, y, value, error, colour, size)
    axes.set_xticks(range(len(epochs)), [number(epoch) for epoch in epochs])
    axes.set_yticks(range(len(sizes)), [value_text(size) if capacity else "" for size in sizes])
    axes.set_xlabel("epochs")
    axes.set_ylabel(shown.names[capacity] if capacity else "")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _square_width(axes: Axes) -> float:
    """Return the width of a square in inches, approximately."""
    spec = axes.get_subplotspec()
    figure = axes.get_figure(root=True)
    assert spec is not None
    assert figure is not None
    low, high = axes.get_xlim()
    panel = figure.get_figwidth() / spec.get_gridspec().ncols
    return max(0.2, panel - points(_ASIDE)) / (high - low)


def _colour(value: float, norm: Normalize) -> Color:
    limit = norm.vmax if norm.vmax is not None else 1.0
    red, green, blue, _ = CHANGE(norm(np.clip(np.nan_to_num(value, posinf=limit), -limit, limit)))
    return red, green, blue


def _numbers(
    axes: Axes, x: int, y: int, value: float, error: float, colour: Color, size: float
) -> None:
    """Write a value and its error on a square of a colour."""
    is_dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 0.55
    digits = 2
    if np.isfinite(error) and error > 0:
        digits = int(np.clip(-np.floor(np.log10(error)), 2, 6))  # so that none is rounded to zero
    text = f"{value:+.{digits}f}" if np.isfinite(value) else "diverged"
    text = minus(text if text.strip("+-0.") else text[1:])  # zero has no sign
    look: Any = {"ha": "center", "va": "center", "color": "white" if is_dark else "#222222"}
    look["in_layout"] = False  # it is inside the panel
    axes.text(x, y + 0.1, text, fontsize=size, **look)
    if np.isfinite(error):
        axes.text(x, y - 0.25, f"± {error:.{digits}f}", fontsize=0.74 * size, **look)
