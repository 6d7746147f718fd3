"""Results of searches: their history, and the Pareto front of several metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dgray.reporting.figures.looks import HELD_OUT, OTHER, Look, looks
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    grid,
    legend_below,
    log_scale,
    new_figure,
    side_by_side,
    title,
    value_scale,
)
from dgray.reporting.figures.view import MAX_SERIES, WIDEST
from dgray.reporting.legible import shortened
from dgray.reporting.presentation import series_title
from dgray.reporting.searches import SearchPoints, points_table

MAX_PANELS = 9
_VALIDATION = "#0072B2"  # one colour for all panels of the history, which one legend explains
_TITLE = 80  # characters


def history(searches: tuple[SearchPoints, ...]) -> Drawing | None:
    """Draw every point on validation, the best so far, and its value on held-out data."""
    finished = [search for search in searches if len(search.done)]
    shown = finished[:MAX_PANELS]
    if not shown:
        return None
    figure, panels = panels_for(len(shown), width=3.9, height=2.9)
    for panel, search in zip(panels, shown, strict=True):
        _history(panel, search)
        alike = [s for s in shown if s.first_metric == search.first_metric]
        heights = pd.concat([_heights(s) for s in alike])
        value_scale(panel, heights, error=_typical_error(alike))
    _share_limits(panels, shown)
    legend_below(figure, np.array(panels), columns=3)
    states = set(pd.concat([search.points["state"] for search in shown]))
    has_held_out = any(search.done[search.first_metric].notna().any() for search in shown)
    return drawing(
        figure,
        "History of each search",
        part_of(len(shown), len(finished)),
        "Dots: values of the points on the validation split, the only split that a search uses. "
        "Steps: the best value so far"
        + (
            "; dashed: the same points on held-out data, ± 1 standard error."
            if has_held_out
            else "."
        ),
        "Where the two differ, the validation value is biased by the selection."
        if has_held_out
        else "",
        "Crosses: points stopped early, at their last checkpoint." if "PRUNED" in states else "",
        "Ticks at the bottom: failed points." if "FAIL" in states else "",
        data=point_numbers(shown),
    )


def search_looks(searches: Sequence[SearchPoints]) -> dict[str, Look]:
    """Return the look of each search by its label, the same in all figures."""
    return looks([(search.label.partition(",")[0], search.label) for search in searches])


def search_title(search: SearchPoints) -> str:
    """Return the title of a search; those of different searches differ."""
    return shortened(series_title(search.label), _TITLE)


def part_of(shown: int, total: int, noun: str = "searches") -> str:
    """Return what is left out of a figure; empty if nothing is."""
    return f"first {shown} of {total} {noun}" if shown < total else ""


def point_numbers(searches: Sequence[SearchPoints]) -> pd.DataFrame:
    """Return the points of searches as numbers of a figure: fields, metrics and their errors."""
    table = points_table(tuple(searches))
    metrics = dict.fromkeys(metric for search in searches for metric in search.metrics)
    fields = dict.fromkeys(field for search in searches for field in search.fields)
    values = [f"{split}{metric}" for metric in metrics for split in ("validation:", "")]
    errors = [f"{name}_se" for name in values if f"{name}_se" in table]
    columns = ["search", "number", "state", "on_front", *fields, *values, *errors]
    return table[[name for name in columns if name in table]]


def panels_for(
    count: int, *, width: float, height: float, columns: int = WIDEST
) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` panels, ``columns`` side by side."""
    columns = min(count, columns, side_by_side(width))
    rows = -(-count // columns)
    figure = new_figure(rows, columns, width=width, height=height)
    panels = list(grid(figure, rows, columns).flat)
    for empty in panels[count:]:
        empty.set_axis_off()
    return figure, panels[:count]


def _history(axes: Axes, search: SearchPoints) -> None:
    done, metric, colour = search.done, search.first_metric, _VALIDATION
    meets = done["excess"] <= 0
    for points, face, label in (
        (done[meets], colour, "point on validation"),
        (done[~meets], "none", "point that violates a constraint"),
    ):
        if len(points):
            place, value = points["number"], points[f"validation:{metric}"]
            axes.scatter(
                place, value, s=15, alpha=0.6, edgecolor=colour, facecolor=face, label=label
            )
    stopped = search.points[search.points["state"] == "PRUNED"]
    if len(stopped):
        place, value = stopped["number"], stopped["last"]
        axes.scatter(place, value, s=18, marker="x", color=OTHER, label="stopped early")
    failed = search.points[search.points["state"] == "FAIL"]
    if len(failed):
        foot = np.full(len(failed), 0.02)
        along = axes.get_xaxis_transform()
        axes.plot(failed["number"], foot, "|", color=OTHER, ms=8, transform=along, label="failed")
    best = search.best_so_far().astype({"number": float})
    place, value = best["number"], best[f"validation:{metric}"]
    axes.step(place, value, where="post", color=colour, label="best so far, on validation")
    if best[metric].notna().any():
        value, error = best[metric].astype(float), best[f"{metric}_se"].astype(float).fillna(0)
        label = "best so far, on held-out data"
        axes.step(place, value, where="post", ls="--", color=HELD_OUT, label=label)
        low, high = value - error, value + error
        axes.fill_between(place, low, high, step="post", color=HELD_OUT, alpha=0.12, lw=0)
    title(axes, search_title(search))
    axes.set_xlabel("point")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _heights(search: SearchPoints) -> pd.Series:
    """All values in the history of a search, including bands."""
    metric, best = search.first_metric, search.best_so_far()
    error = best[f"{metric}_se"].astype(float).fillna(0)
    ends = [best[metric].astype(float) + sign * error for sign in (-1, 1)]
    stopped = search.points.loc[search.points["state"] == "PRUNED", "last"]
    return pd.concat([search.done[f"validation:{metric}"], stopped, *ends]).astype(float).dropna()


def _typical_error(searches: Sequence[SearchPoints]) -> float:
    """Median standard error of the first metric; 0 if errors are unknown."""
    errors = pd.concat([s.done[f"validation:{s.first_metric}_se"] for s in searches])
    return float(np.nan_to_num(errors.astype(float).median()))


def _share_limits(panels: Sequence[Axes], searches: Sequence[SearchPoints]) -> None:
    """Give searches of the same metric the same vertical range, so that they can be compared."""
    for metric in {search.first_metric for search in searches}:
        alike = [p for p, s in zip(panels, searches, strict=True) if s.first_metric == metric]
        ends = np.array([panel.get_ylim() for panel in alike])
        for panel in alike:
            panel.set_ylim(ends[:, 0].min(), ends[:, 1].max())


def pareto_front(searches: tuple[SearchPoints, ...]) -> Drawing | None:
    """Draw the first metric against each other one, with the Pareto front of each search."""
    every = [s for s in searches if len(s.metrics) > 1 and len(s.done)]
    several, look = every[:MAX_SERIES], search_looks(searches)
    if not several:
        return None
    pairs = list(dict.fromkeys(pair for search in several for pair in _pairs(search)))
    width = 7.2 if len(pairs) == 1 else 5.2  # a single panel is as wide as the page
    figure, panels = panels_for(len(pairs), width=width, height=3.6)
    for panel, (first, second) in zip(panels, pairs, strict=True):
        for search in several:
            if (first, second) in _pairs(search):
                _pareto(panel, search, (first, second), look[search.label])
        panel.set_xlabel(second)
        panel.set_ylabel(first)
        names = [f"validation:{name}" for name in (second, first)]
        of_pair = [s for s in several if (first, second) in _pairs(s)]
        x, y = (pd.concat([s.done[name] for s in of_pair]).astype(float) for name in names)
        _log_where_wide(panel, x)
        value_scale(panel, y, error=_typical_error(of_pair))
    legend_below(figure, np.array(panels), columns=2)
    has_violations = any((search.done["excess"] > 0).any() for search in several)
    has_held_out = any(s.front()[s.first_metric].notna().any() for s in several)
    return drawing(
        figure,
        "Pareto front on the validation split",
        part_of(len(several), len(every)),
        "Points on the validation split"
        + (", hollow if they violate a constraint. " if has_violations else ". ")
        + "For a point of the front, no "
        + ("point that meets the constraints " if has_violations else "other point ")
        + "is better in one metric and at least as good in all others.",
        "Dark: the points of the front on held-out data, ± 1 standard error."
        if has_held_out
        else "",
        data=point_numbers(several),
    )


def _pairs(search: SearchPoints) -> Iterator[tuple[str, str]]:
    first, *others = search.metrics
    return ((first, other) for other in others)


def _pareto(axes: Axes, search: SearchPoints, pair: tuple[str, str], look: Look) -> None:
    first, second = pair
    done, front, colour, marker = search.done, search.front(), look.colour, look.marker
    name, meets = search_title(search), done["excess"] <= 0
    for points, face in ((done[meets], colour), (done[~meets], "none")):
        x, y = (points[f"validation:{metric}"].astype(float) for metric in (second, first))
        axes.scatter(x, y, s=14, marker=marker, alpha=0.4, edgecolor=colour, facecolor=face)
    if not meets.all():
        axes.scatter(
            [], [], s=14, edgecolor=OTHER, facecolor="none", label="violates a constraint"
        )
    front = front.sort_values(f"validation:{second}")
    x, y = (front[f"validation:{metric}"].astype(float) for metric in (second, first))
    is_rising = search.metrics[second] == "minimize"
    axes.plot(
        x,
        y,
        color=colour,
        marker=marker,
        linestyle="-" if len(search.metrics) == 2 else "none",
        drawstyle="steps-post" if is_rising else "steps-pre",
        label=f"front of {name}",
    )
    if front[first].notna().any():  # a cost is the same on both splits
        axes.errorbar(
            front[second].astype(float),
            front[first].astype(float),
            yerr=front[f"{first}_se"].astype(float),
            fmt=marker,
            color=HELD_OUT,
            ms=3,
            lw=0.8,
            alpha=0.6,
            label=f"front of {name} on held-out data",
        )


def _log_where_wide(axes: Axes, values: pd.Series) -> None:
    if values.min() > 0 and values.max() > 10 * values.min():
        log_scale(axes, "x")
