"""Style shared by all figures: fonts, scales, bands, legends.

Uses the object interface of matplotlib only: without pyplot there is neither a display nor state
between figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from dgray.reporting.estimate import minus
from dgray.reporting.presentation import BASE, objective
from dgray.reporting.selection import number, short

Color = tuple[float, float, float]
GAIN, HARM = "#00695C", "#A8124A"
CHANGE = LinearSegmentedColormap.from_list("change", [GAIN, "#F7F5F2", HARM])
STYLE: Any = {  # Any: matplotlib types its keys one by one
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "savefig.dpi": 150,
    "svg.fonttype": "path",  # the same picture on machines without the font
    "pdf.fonttype": 3,
}
WIDEST = 3  # panels side by side whose text is still legible on the page
_LEGEND_COLUMN = 4.8  # width of a column besides its label, in font sizes: line, gap, distance
SPAN = 20.0  # largest ratio of values on a linear scale
DASHED, DOTTED = (0, (5, 3)), (0, (1, 1.5))  # lines of the base, of exact controls


def new_figure(rows: int, columns: int, *, width: float = 3.4, height: float = 2.7) -> Figure:
    """Return a figure for ``rows`` x ``columns`` panels of a size in inches."""
    return Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")


def grid(figure: Figure, rows: int, columns: int, *, share_rows: bool = False) -> np.ndarray:
    """Return the axes of a figure, shape (rows, columns)."""
    axes: np.ndarray = figure.subplots(
        rows, columns, squeeze=False, sharey="row" if share_rows else False
    )
    return axes


def wrapped_grid(
    rows: int, columns: int, *, width: float, height: float
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, shape (rows, columns); rows of many panels are broken."""
    lines = math.ceil(columns / WIDEST)
    wide = math.ceil(columns / lines)
    figure = new_figure(rows * lines, wide, width=width, height=height)
    axes = grid(figure, rows * lines, wide).reshape(rows, lines * wide)
    for spare in axes[:, columns:].flat:
        spare.remove()
    return figure, axes[:, :columns]


def shade(colour: str, position: int, count: int) -> Color:
    """Return a shade: light for the first of ``count`` values, full colour for the last."""
    light = 0.0 if count < 2 else 0.6 * (1 - position / (count - 1))
    red, green, blue = (part + (1 - part) * light for part in to_rgb(colour))
    return red, green, blue


def by_value(
    models: pd.DataFrame, axis: str | None, colour: str, among: pd.DataFrame | None = None
) -> Iterator[tuple[str, Color, pd.DataFrame]]:
    """Yield a label, a shade and the models of each value of an ordered axis.

    Args:
        models: guided models of one series.
        axis: the ordered axis; None: all models together.
        colour: colour of the highest value; lower values are lighter.
        among: guided models that have all values; default ``models``.

    Yields:
        The label is empty if there is only one value.
    """
    if axis is None:
        yield "", shade(colour, 0, 1), models
        return
    values = sorted((models if among is None else among)[axis].unique())
    for position, value in enumerate(values):
        label = f"{short(axis)} {number(value)}" if len(values) > 1 else ""
        yield label, shade(colour, position, len(values)), models[models[axis] == value]


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
    axes.plot(place, value, **({"marker": "o"} | style))
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
        linestyle=DASHED if spec == BASE else DOTTED,
        linewidth=1.5,
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
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _symlog_ticks(low: float, high: float, threshold: float) -> list[float]:
    """Zero and powers of ten beyond the linear part, with steps in between if they are few."""
    lowest = 0.4 * threshold
    first, last = math.floor(math.log10(lowest)), math.floor(math.log10(max(high, -low)))
    steps = (1, 2, 5) if last - first < 2 else (1, 3) if last - first < 3 else (1,)
    sizes = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    sizes = [size for size in sizes if size >= lowest]
    return [0.0, *(s for s in sizes if s <= high), *(-s for s in sizes if -s >= low)]


def _plain_number(value: float, _: object) -> str:
    return minus(f"{value:g}")


def number_ticks(axes: Axes, values: Sequence[float] | np.ndarray, *, log: bool) -> None:
    """Put the ticks of the horizontal axis at the values themselves."""
    if log:
        axes.set_xscale("log")
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.minorticks_off()


def legend_below(figure: Figure, axes: np.ndarray, *, columns: int = 4) -> None:
    """Add one legend for all panels, each label once, in at most ``columns`` columns."""
    entries: dict[str, Any] = {}
    for panel in axes.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=min(columns, len(entries), _columns_of(figure, list(entries))),
        )


def _columns_of(figure: Figure, labels: Sequence[str]) -> int:
    """Number of columns of a legend that fit the width of the figure, at least one."""
    size = STYLE["legend.fontsize"]
    font = FontProperties(family=STYLE["font.family"], size=size)
    widths = [text_to_path.get_text_width_height_descent(text, font, False)[0] for text in labels]
    column = max(widths) + _LEGEND_COLUMN * size
    return max(1, int(figure.get_figwidth() * 72 // column))
