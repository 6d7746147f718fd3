"""Parts shared by all figures: panels, scales, bands, legends.

Uses the object interface of matplotlib only: without pyplot there is neither a display nor state
between figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from dgray.reporting.estimate import minus
from dgray.reporting.figures.looks import BASE_LINE, EXACT_LINE
from dgray.reporting.figures.style import StyledFigure, current_style, points
from dgray.reporting.figures.texts import drawable, fit_texts, text_width
from dgray.reporting.figures.view import WIDEST
from dgray.reporting.presentation import BASE, objective

_LEGEND_COLUMN = 4.8  # width of a column besides its label, in font sizes: line, gap, distance
SPAN = 20.0  # largest ratio of values on a linear scale
_NARROWEST = 5.0  # inches, for the title of a figure
_LEGEND_LINE = 14.0  # points
_LABELS = 0.75  # inches of the height of a panel that its title and labels take
_SMALLEST = 0.48  # of the size of a panel in the report: its text is still legible


@dataclass(frozen=True)
class Drawing:
    """Figure with its numbers.

    Attributes:
        figure: the figure.
        heading: what it shows, without the settings that are held fixed.
        caption: sentences that describe what is drawn.
        data: numbers that are drawn; ``{column}_se`` is the standard error of ``{column}``.
        table: numbers for a printed table, if ``data`` are too many.
    """

    figure: Figure
    heading: str
    caption: str
    data: pd.DataFrame
    table: pd.DataFrame


def drawing(
    figure: Figure,
    heading: str,
    held: str,
    *caption: str,
    data: pd.DataFrame,
    table: pd.DataFrame | None = None,
) -> Drawing:
    """Finish a figure.

    Args:
        figure: the figure with all its panels and legends.
        heading: what it shows.
        held: what is the same in all its lines.
        caption: sentences; empty ones are left out.
        data: numbers that are drawn.
        table: numbers for a printed table; None: ``data``.
    """
    fit_texts(figure, heading + (f"\n({held})" if held else ""))
    fixed = f"Held fixed: {held}." if held else ""
    text = " ".join(filter(None, [*caption, fixed]))
    return Drawing(figure, heading, text, data, data if table is None else table)


def new_figure(rows: int, columns: int, *, width: float = 3.4, height: float = 2.7) -> Figure:
    """Return a figure for ``rows`` x ``columns`` panels of a size in inches."""
    wide = max(_NARROWEST, width * columns)
    if (page := current_style().width) is not None:
        labels = min(points(_LABELS), 0.5 * height)
        height = labels + (height - labels) * min(1.0, page / (width * columns))
        wide = page
    return StyledFigure(figsize=(wide, height * rows + points(0.5)), layout="constrained")


def grid(figure: Figure, rows: int, columns: int, *, share_rows: bool = False) -> np.ndarray:
    """Return the axes of a figure, shape (rows, columns)."""
    axes: np.ndarray = figure.subplots(
        rows, columns, squeeze=False, sharey="row" if share_rows else False
    )
    for panel in axes.flat:
        panel.spines[:].set_in_layout(False)  # they are the edges of the panel
    return axes


def fix_layout(figure: Figure) -> None:
    """Compute the layout of a figure once, so that it is not computed for each file format."""
    if (engine := figure.get_layout_engine()) is None:
        return
    engine.execute(figure)
    figure.set_layout_engine(None)
    for axes in figure.axes:
        axes.apply_aspect()
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_tightbbox()  # places the label
            place = axis.label.get_transform().transform(axis.label.get_position())
            axis.set_label_coords(*axes.transAxes.inverted().transform(place))


def wrapped_grid(
    rows: int, columns: int, *, width: float, height: float
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, shape (rows, columns); rows of many panels are broken."""
    lines = math.ceil(columns / side_by_side(width))
    wide = math.ceil(columns / lines)
    figure = new_figure(rows * lines, wide, width=width, height=height)
    axes = grid(figure, rows * lines, wide).reshape(rows, lines * wide)
    for spare in axes[:, columns:].flat:
        spare.remove()
    return figure, axes[:, :columns]


def side_by_side(width: float) -> int:
    """Return how many panels of a width in inches, for the report, fit side by side."""
    page = current_style().width
    return WIDEST if page is None else max(1, int(page / points(_SMALLEST * width)))


def title(axes: Axes, *lines: str) -> None:
    """Set the title of a panel; empty lines are left out."""
    axes.set_title("\n".join(filter(None, lines)))


def band(
    axes: Axes,
    lines: pd.DataFrame,
    x: str,
    y: str,
    **style: Any,  # forwarded to plot
) -> None:
    """Draw a line with a band of plus and minus one standard error."""
    place, value = lines[x].to_numpy(float), lines[y].to_numpy(float)
    error = np.nan_to_num(lines[f"{y}_se"].to_numpy(float))
    value = np.where(np.isfinite(value), value, np.nan)
    axes.plot(place, value, **style)
    axes.fill_between(
        place, value - error, value + error, color=style["color"], alpha=0.16, linewidth=0
    )


def level(axes: Axes, model: pd.Series | None, column: str) -> None:
    """Draw a horizontal line for a model without epochs: the base or an exact control."""
    if model is None or pd.isna(model[column]):
        return
    spec = objective(model["objective"])
    axes.axhline(
        float(model[column]),
        color=spec.colour,
        linestyle=BASE_LINE if spec == BASE else EXACT_LINE,
        linewidth=0.9 * rcParams["lines.linewidth"],
        label=spec.title,
    )


def hide_ticks(axes: Axes) -> None:
    """Remove ticks and grid, as for images."""
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])


def value_scale(axes: Axes, values: pd.Series, *, zero: bool = True, error: float = 0.0) -> None:
    """Scale the vertical axis, logarithmically if the values span much.

    Args:
        axes: the panel.
        values: all values in it.
        zero: linear near zero, so that zero is visible.
        error: typical standard error of the values; differences below it are noise about zero.
    """
    finite = values.to_numpy(float)
    finite = finite[np.isfinite(finite)]
    size = np.maximum(np.abs(finite[finite != 0]), error)
    if not size.size or size.max() <= SPAN * size.min():
        return
    if finite.min() > 0 and not zero:
        axes.set_yscale("log")
    else:
        # No finer than 1/300 of the range, below which differences are noise about zero.
        threshold = max(float(size.min()), float(size.max()) / 300)
        axes.set_yscale("symlog", linthresh=threshold, linscale=0.5)
        low, high = min(0.0, float(finite.min())), float(finite.max())
        axes.set_ylim(1.2 * low - 0.2 * threshold, 1.4 * max(high, threshold))
        axes.set_yticks(_symlog_ticks(low, high, threshold))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _symlog_ticks(low: float, high: float, threshold: float) -> list[float]:
    """Zero and powers of ten beyond the linear part, with steps in between if they are few."""
    lowest = 0.4 * threshold
    first, last = math.floor(math.log10(lowest)), math.floor(math.log10(max(high, -low)))
    steps = (1, 2, 5) if last - first < 2 else (1, 3) if last - first < 3 else (1,)
    sizes = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    sizes = [size for size in sizes if size >= lowest]
    return [0.0, *(s for s in sizes if s <= high), *(-s for s in sizes if -s >= low)]


def plain_number(value: float, _: object) -> str:
    """Format the number at a tick."""
    return minus(f"{value:g}")


def number_ticks(axes: Axes, values: Sequence[float] | np.ndarray, *, log: bool) -> None:
    """Put the ticks of the horizontal axis at the values, the labels where they have space."""
    if log:
        axes.set_xscale("log")
    axes.set_xticks(list(values), _spaced_labels(axes, values, log=log))
    axes.minorticks_off()


def _spaced_labels(axes: Axes, values: Sequence[float] | np.ndarray, *, log: bool) -> list[str]:
    """Return the labels of increasing ticks; those that would overlap the one before are empty."""
    scaled = np.log(values) if log else np.asarray(values, float)
    figure = axes.get_figure(root=True)
    size = FontProperties(size=rcParams["xtick.labelsize"]).get_size_in_points()
    assert figure is not None  # every panel is in one
    width = 72 * figure.get_figwidth() * axes.get_position().width
    places = (scaled - scaled.min()) / max(np.ptp(scaled), 1e-9) * 0.9 * width
    labels, end = [], -np.inf
    for value, place in zip(values, places, strict=True):
        text = f"{value:g}"
        half = text_width(text, size) / 2
        fits = place - half > end
        labels.append(text if fits else "")
        end = place + half + size / 2 if fits else end
    return labels


def log_scale(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers."""
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_scale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:  # three ticks a decade: each has five artists, which are drawn in every format
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: np.ndarray, *, columns: int = 4) -> None:
    """Add one legend for all panels in at most ``columns`` columns, each line once."""
    entries: dict[tuple[Any, ...], tuple[Any, str]] = {}
    for panel in axes.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault((label, *_look(handle)), (handle, drawable(label)))
    add_legend(figure, [*entries.values()], columns=columns)


def add_legend(figure: Figure, entries: Sequence[tuple[Any, str]], *, columns: int = 4) -> None:
    """Add a legend of handles and labels below all panels, and height for it."""
    if not entries:
        return
    handles, labels = zip(*entries, strict=True)
    count = min(columns, len(entries), _columns_of(figure, labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=count)
    lines = math.ceil(len(entries) / count) - 1
    figure.set_figheight(figure.get_figheight() + lines * points(_LEGEND_LINE) / 72)


def _look(handle: Any) -> tuple[Any, ...]:
    if not hasattr(handle, "get_linestyle") or not hasattr(handle, "get_marker"):
        return ()
    return to_hex(handle.get_color()), handle.get_linestyle(), handle.get_marker()


def _columns_of(figure: Figure, labels: Sequence[str]) -> int:
    """Number of columns of a legend that fit the width of the figure, at least one."""
    size = points(8.5)
    column = max(text_width(text, size) for text in labels) + _LEGEND_COLUMN * size
    return max(1, int(figure.get_figwidth() * 72 // column))
