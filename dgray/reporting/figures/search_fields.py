"""Fields of searches: their importances, and parallel coordinates of the points.

Importances are those of Optuna (PED-ANOVA, Watanabe et al. 2023, arXiv:2304.10255).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.estimate import minus
from dgray.reporting.figures.looks import OTHER, RULE, Look
from dgray.reporting.figures.search import (
    MAX_PANELS,
    panels_for,
    part_of,
    point_numbers,
    search_looks,
    search_title,
)
from dgray.reporting.figures.style import points
from dgray.reporting.figures.texts import drawable
from dgray.reporting.figures.theme import Drawing, drawing, grid, new_figure, title
from dgray.reporting.figures.view import MAX_ROWS, WIDEST, axis_names
from dgray.reporting.legible import shortened
from dgray.reporting.searches import Range, SearchPoints

MIN_POINTS = 12  # finished points for importances: those of fewer are noise
MIN_BETTER = 4  # least number of points that PED-ANOVA takes as the better ones
_MAX_FIELDS = 10  # axes of parallel coordinates, so that their labels are legible
_CHOICE = 20  # characters of a choice


def importances(searches: tuple[SearchPoints, ...]) -> Drawing | None:
    """Draw the importance of each searched field for each metric."""
    every = [
        (search, metric, values)
        for search in searches
        if len(search.done) >= MIN_POINTS
        for metric in search.metrics
        if (values := importances_of(search, metric))
    ]
    bars, look = every[:MAX_PANELS], search_looks(searches)
    if not bars:
        return None
    num_metrics = max(len(search.metrics) for search, _, _ in bars)
    columns = min(num_metrics, WIDEST) if num_metrics > 1 else WIDEST  # one row per search
    figure, panels = panels_for(len(bars), width=3.8, height=2.6, columns=columns)
    for panel, (search, metric, values) in zip(panels, bars, strict=True):
        titles = axis_names(search.fields)
        names = list(values)[::-1]
        widths = [values[name] for name in names]
        colour = look[search.label].colour
        panel.barh([drawable(titles[name]) for name in names], widths, color=colour)
        suffix = f": {metric}" if len(search.metrics) > 1 else ""
        title(panel, f"{search_title(search)}{suffix}")
        panel.set_xlabel("importance (PED-ANOVA)")
        panel.set_xlim(0, 1)
        panel.grid(visible=False, axis="y")
    return drawing(
        figure,
        "Importance of the searched fields, on validation",
        part_of(len(bars), len(every), "panels"),
        "Influence of a field on whether a point is among the best tenth (at least "
        f"{MIN_BETTER} points), by Optuna's PED-ANOVA; the values of a search add up to 1. Only "
        f"fields that every point has, and searches with at least {MIN_POINTS} finished points. "
        "With so few points the values are rough.",
        data=pd.DataFrame(
            [
                {"search": search.label, "metric": metric, "field": name, "importance": value}
                for search, metric, values in bars
                for name, value in values.items()
            ]
        ),
    )


def importances_of(search: SearchPoints, metric: str) -> dict[str, float]:
    """Return the importance of each field that every finished point has, largest first.

    Importances refer to the whole range of a field, also where parts of it were not visited.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done = search.done
    fields = [f for f in search.fields if done[f].notna().all() and done[f].nunique() > 1]
    if not fields:
        return {}
    is_lower_better = search.metrics[metric] == "minimize"
    study = optuna.create_study(direction="minimize" if is_lower_better else "maximize")
    distributions: dict[str, Any] = {name: _distribution(search.ranges[name]) for name in fields}
    for _, row in done.iterrows():
        study.add_trial(
            optuna.trial.create_trial(
                params={name: _plain(row[name], search.ranges[name]) for name in fields},
                distributions=distributions,
                value=float(row[f"validation:{metric}"]),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(
            target_quantile=max(0.1, MIN_BETTER / len(done))
        )
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _distribution(values: Range) -> object:
    import optuna

    if values.kind == "choice":
        return optuna.distributions.CategoricalDistribution(values.choices)
    if values.kind == "int":
        return optuna.distributions.IntDistribution(
            int(values.low), int(values.high), log=values.is_log
        )
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.is_log)


def _plain(value: Any, of: Range) -> object:
    if of.kind == "choice":
        return next(choice for choice in of.choices if choice == value)
    return int(value) if of.kind == "int" else float(value)


def parallel_coordinates(searches: tuple[SearchPoints, ...]) -> Drawing | None:
    """Draw one line per point over the searched fields, dark if the first metric is good."""
    every = [search for search in searches if len(search.done) > 1]
    shown, look = every[:MAX_ROWS], search_looks(searches)
    if not shown:
        return None
    most = max(len(search.fields) for search in shown)
    figure = new_figure(len(shown), 1, width=1.35 * (2 + min(most, _MAX_FIELDS)))
    for panel, search in zip(grid(figure, len(shown), 1)[:, 0], shown, strict=True):
        _parallel(panel, search, look[search.label])
    left_out = [
        part_of(len(shown), len(every)),
        part_of(min(most, _MAX_FIELDS), most, "fields"),
    ]
    has_stopped = any((search.points["state"] == "PRUNED").any() for search in shown)
    has_gaps = any(search.done[list(search.fields)].isna().any(axis=None) for search in shown)
    return drawing(
        figure,
        "Searched fields of every point (darker: better on validation)",
        ", ".join(filter(None, left_out)),
        "One line per finished point, each field over its whole range (logarithmic if its domain "
        "is); at the right the rank on validation.",
        "Dotted: stopped early." if has_stopped else "",
        "A line is interrupted at a field that the point does not use." if has_gaps else "",
        data=point_numbers(shown),
    )


def _parallel(axes: Axes, search: SearchPoints, look: Look) -> None:
    fields = search.fields[:_MAX_FIELDS]
    done = search.done
    values = done[f"validation:{search.first_metric}"].astype(float)
    rank = values.rank(ascending=not search.is_lower_better, method="first").to_numpy() - 1
    goodness = rank / (len(rank) - 1)
    places = np.arange(len(fields) + 1)
    stopped = search.points[search.points["state"] == "PRUNED"]
    for line in _lines(search, stopped, fields):
        axes.plot(places[:-1], line, color=OTHER, linestyle=":", linewidth=0.9, alpha=0.7)
    lines, colour = np.column_stack([_lines(search, done, fields), goodness]), look.colour
    for index in np.argsort(rank):
        shade = float(0.12 + 0.85 * goodness[index] ** 3)
        axes.plot(places, lines[index], color=colour, alpha=shade, linewidth=1.1)
    for x, name in zip(places, fields, strict=False):
        for height, label in _ticks(search.ranges[name]):
            _write(axes, float(x), height, label)
    worst, best = (values.iloc[int(np.argmin(rank))], values.iloc[int(np.argmax(rank))])
    for height, value in ((0.0, worst), (1.0, best)):
        _write(axes, float(places[-1]), height, minus(f"{value:.3g}"))
    titles = axis_names(search.fields)
    names = [drawable(titles[name]) for name in fields]
    axes.set_xticks(places, [*names, f"{search.first_metric},\nby rank"])
    axes.tick_params(axis="x", pad=10, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.vlines(places, 0, 1, color=RULE, linewidth=0.8, zorder=0)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.set_title(search_title(search), pad=10)


def _write(axes: Axes, x: float, height: float, label: str) -> None:
    """Write a value: the ends above and below their axis, others beside it."""
    if height in (0.0, 1.0):
        below = height == 0.0
        place, to = (x, -0.04 if below else 1.04), "top" if below else "bottom"
        axes.text(*place, label, ha="center", va=to, fontsize=points(7))
    else:
        axes.text(x + 0.03, height, label, ha="left", va="center", fontsize=points(7))


def _lines(search: SearchPoints, rows: pd.DataFrame, fields: Sequence[str]) -> np.ndarray:
    """Heights in [0, 1], shape (points, fields); NaN where a point has no value."""
    columns = [_heights(rows[name], search.ranges[name]) for name in fields]
    return np.column_stack(columns) if columns else np.empty((len(rows), 0))


def _heights(values: pd.Series, within: Range) -> np.ndarray:
    if within.kind == "choice":
        last = max(len(within.choices) - 1, 1)
        return np.array(
            [np.nan if pd.isna(v) else within.choices.index(v) / last for v in values], float
        )
    numbers, low, high = values.astype(float).to_numpy(), within.low, within.high
    if within.is_log:
        numbers, low, high = np.log(numbers), float(np.log(low)), float(np.log(high))
    heights: np.ndarray = (numbers - low) / (high - low if high > low else 1.0)
    return heights


def _ticks(within: Range) -> list[tuple[float, str]]:
    """Labelled heights: the ends of a range of numbers, every choice."""
    if within.kind == "choice":
        last = max(len(within.choices) - 1, 1)
        return [
            (index / last, shortened(str(choice), _CHOICE))
            for index, choice in enumerate(within.choices)
        ]
    return [(0.0, f"{within.low:g}"), (1.0, f"{within.high:g}")]
