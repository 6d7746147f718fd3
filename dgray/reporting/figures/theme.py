"""One look for all figures: colours by objective (Okabe-Ito), scales, bands, legends.

Knows matplotlib's object interface only: no pyplot, so no display and no state between figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

Color = tuple[float, float, float]
COLOURS = {
    "base": "#555555",
    "data": "#222222",
    "oracle": "#009E73",
    "oscillating": "#B8860B",
    "cross_entropy": "#D55E00",
    "kl": "#0072B2",
    "mixed": "#AA4499",
}
NAMES = {"cross_entropy": "cross-entropy", "kl": "KL objective", "mixed": "mixed objective"}
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
WIDEST = 3  # panels side by side whose text can still be read on the report's page
_LEGEND_COLUMN = 4.8  # font sizes of a column beside its label: line, gap, distance to the next
_SPAN = 20.0  # values that span more are shown on a logarithmic scale


def new_figure(rows: int, columns: int, *, width: float = 3.4, height: float = 2.7) -> Figure:
    """A figure with room for ``rows`` x ``columns`` panels (inches a panel)."""
    return Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")


def grid(figure: Figure, rows: int, columns: int, *, share_rows: bool = False) -> np.ndarray:
    """Axes as a (rows, columns) array."""
    axes: np.ndarray = figure.subplots(
        rows, columns, squeeze=False, sharey="row" if share_rows else False
    )
    return axes


def wrapped_grid(
    rows: int, columns: int, *, width: float, height: float
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes as a (rows, columns) array; long rows go on below themselves."""
    lines = math.ceil(columns / WIDEST)
    wide = math.ceil(columns / lines)
    figure = new_figure(rows * lines, wide, width=width, height=height)
    axes = grid(figure, rows * lines, wide).reshape(rows, lines * wide)
    for spare in axes[:, columns:].flat:
        spare.remove()
    return figure, axes[:, :columns]


def name_of(series: str) -> str:
    """``kl, gamma 2`` -> ``KL objective, gamma 2``."""
    objective, comma, rest = series.partition(",")
    return NAMES.get(objective, objective) + comma + rest


def shade(colour: str, position: int, count: int) -> Color:
    """Light for the first of ``count`` values of an ordered axis, full colour for the last."""
    light = 0.0 if count < 2 else 0.6 * (1 - position / (count - 1))
    red, green, blue = (part + (1 - part) * light for part in to_rgb(colour))
    return red, green, blue


def band(
    axes: Axes,
    lines: pd.DataFrame,
    x: str,
    y: str,
    **style: Any,  # forwarded whole to plot
) -> None:
    """A line with its plus-minus one standard error."""
    at, value = lines[x].to_numpy(float), lines[y].to_numpy(float)
    error = np.nan_to_num(lines[f"{y}_se"].to_numpy(float))
    value = np.where(np.isfinite(value), value, np.nan)
    axes.plot(at, value, **({"marker": "o"} | style))
    axes.fill_between(
        at, value - error, value + error, color=style["color"], alpha=0.16, linewidth=0
    )


def level(axes: Axes, cell: pd.Series | None, metric: str, label: str, objective: str) -> None:
    """A horizontal line for a model without epochs: base or oracle."""
    if cell is None or pd.isna(cell[metric]):
        return
    style = (0, (5, 3)) if objective == "base" else (0, (1, 1.5))
    axes.axhline(
        float(cell[metric]), color=COLOURS[objective], linestyle=style, linewidth=1.5, label=label
    )


def value_scale(axes: Axes, values: pd.Series, *, zero: bool = True, error: float = 0.0) -> None:
    """Logarithmic where values span much; with ``zero`` linear near zero, so that zero is seen.

    ``error`` is the values' typical standard error: what lies within it is noise about zero, not
    orders of magnitude.
    """
    given = values.to_numpy(float)
    given = given[np.isfinite(given)]
    size = np.maximum(np.abs(given[given != 0]), error)
    if not size.size or size.max() <= _SPAN * size.min():
        return
    if given.min() > 0 and not zero:
        axes.set_yscale("log")
    else:
        # No finer than 1/300 of the range: differences below that are noise about zero.
        threshold = max(float(size.min()), float(size.max()) / 300)
        axes.set_yscale("symlog", linthresh=threshold, linscale=0.5)
        low, high = min(0.0, float(given.min())), float(given.max())
        axes.set_ylim(1.2 * low - 0.2 * threshold, 1.4 * max(high, threshold))
        axes.set_yticks(_symlog_ticks(low, high, threshold))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _symlog_ticks(low: float, high: float, threshold: float) -> list[float]:
    """Zero and powers of ten beyond the linear part; halves between them where there are few."""
    lowest = 0.4 * threshold
    first, last = math.floor(math.log10(lowest)), math.floor(math.log10(max(high, -low)))
    steps = (1, 2, 5) if last - first < 2 else (1, 3) if last - first < 3 else (1,)
    sizes = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    sizes = [size for size in sizes if size >= lowest]
    return [0.0, *(s for s in sizes if s <= high), *(-s for s in sizes if -s >= low)]


def _plain_number(value: float, _: object) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def number_ticks(axes: Axes, values: Sequence[float] | np.ndarray, *, log: bool) -> None:
    """Ticks of the horizontal axis at the values themselves, written plainly."""
    if log:
        axes.set_xscale("log")
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    axes.minorticks_off()


def legend_below(figure: Figure, axes: np.ndarray, *, columns: int = 4) -> None:
    """One legend for all panels, each label once, in order of appearance.

    It has at most ``columns`` columns, fewer where they would be wider than the figure.
    """
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
    """As many columns of a legend as the figure is wide enough for, at least one."""
    size = STYLE["legend.fontsize"]
    font = FontProperties(family=STYLE["font.family"], size=size)
    widths = [text_to_path.get_text_width_height_descent(each, font, False)[0] for each in labels]
    column = max(widths) + _LEGEND_COLUMN * size
    return max(1, int(figure.get_figwidth() * 72 // column))
