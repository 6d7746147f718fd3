"""Figures of what searches varied: importances of the fields, and parallel coordinates.

Importances are Optuna's (PED-ANOVA, Watanabe et al. 2023, arXiv 2304.10255).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.search import COLUMNS, colour_of, panels_for
from dgray.reporting.figures.theme import grid, name_of, new_figure
from dgray.reporting.search_table import CellPoints, Range
from dgray.reporting.views import short

MIN_POINTS = 12  # for importances: below, they are noise
MIN_BETTER = 4  # so many points are the better ones that PED-ANOVA looks at, at least
_STOPPED = "#999999"


def importances(searches: tuple[CellPoints, ...]) -> Figure | None:
    """How much each searched field matters to each metric."""
    found = [
        (search, metric, values)
        for search in searches
        if len(search.done) >= MIN_POINTS
        for metric in search.metrics
        if (values := importances_of(search, metric))
    ]
    if not found:
        return None
    num_metrics = max(len(search.metrics) for search, _, _ in found)
    columns = min(num_metrics, COLUMNS) if num_metrics > 1 else COLUMNS  # a row a search
    figure, panels = panels_for(len(found), width=3.8, height=2.6, columns=columns)
    for panel, (search, metric, values) in zip(panels, found, strict=True):
        names = list(values)[::-1]
        widths = [values[name] for name in names]
        panel.barh([short(name) for name in names], widths, color=colour_of(search))
        of_several = f": {metric}" if len(search.metrics) > 1 else ""
        panel.set_title(f"{name_of(search.label)}{of_several}", fontsize=9)
        panel.set_xlabel("importance (PED-ANOVA)")
        panel.set_xlim(0, 1)
        panel.grid(visible=False, axis="y")
    figure.suptitle("Importance of the searched fields, by validation", fontsize=11)
    return figure


def importances_of(search: CellPoints, metric: str) -> dict[str, float]:
    """Field -> importance, of fields that every finished point has; the greatest first.

    They are of the whole ranges that the study states, whichever part of them was visited.
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


def _distribution(given: Range) -> object:
    import optuna

    if given.kind == "choice":
        return optuna.distributions.CategoricalDistribution(given.choices)
    if given.kind == "int":
        return optuna.distributions.IntDistribution(
            int(given.low), int(given.high), log=given.is_log
        )
    return optuna.distributions.FloatDistribution(given.low, given.high, log=given.is_log)


def _plain(value: Any, given: Range) -> object:
    if given.kind == "choice":
        return next(choice for choice in given.choices if choice == value)
    return int(value) if given.kind == "int" else float(value)


def parallel_coordinates(searches: tuple[CellPoints, ...]) -> Figure | None:
    """A line a point over the searched fields, dark where the first metric is good."""
    shown = [search for search in searches if len(search.done) > 1]
    if not shown:
        return None
    width = 1.35 * (2 + max(len(search.fields) for search in shown))
    figure = new_figure(len(shown), 1, width=width)
    for panel, search in zip(grid(figure, len(shown), 1)[:, 0], shown, strict=True):
        _parallel(panel, search)
    figure.suptitle("Searched fields of every point; dark is good on validation", fontsize=11)
    return figure


def _parallel(axes: Axes, search: CellPoints) -> None:
    done = search.done
    values = done[f"validation:{search.first_metric}"].astype(float)
    rank = values.rank(ascending=not search.is_lower_better, method="first").to_numpy() - 1
    goodness = rank / (len(rank) - 1)
    at = np.arange(len(search.fields) + 1)
    stopped = search.points[search.points["state"] == "PRUNED"]
    for line in _lines(search, stopped):
        axes.plot(at[:-1], line, color=_STOPPED, linestyle=":", linewidth=0.9, alpha=0.7)
    lines = np.column_stack([_lines(search, done), goodness])
    for index in np.argsort(rank):
        shade = float(0.12 + 0.85 * goodness[index] ** 3)
        axes.plot(at, lines[index], color=colour_of(search), alpha=shade, linewidth=1.1)
    for x, name in zip(at, search.fields, strict=False):
        for height, word in _ticks(search.ranges[name]):
            _write(axes, float(x), height, word)
    worst, best = (values.iloc[int(np.argmin(rank))], values.iloc[int(np.argmax(rank))])
    for height, value in ((0.0, worst), (1.0, best)):
        _write(axes, float(at[-1]), height, f"{value:.3g}".replace("-", "\N{MINUS SIGN}"))
    names = [short(name) for name in search.fields]
    axes.set_xticks(at, [*names, f"{search.first_metric},\nby rank"])
    axes.tick_params(axis="x", pad=10, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.vlines(at, 0, 1, color="#BBBBBB", linewidth=0.8, zorder=0)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.set_title(name_of(search.label), fontsize=9, pad=10)


def _write(axes: Axes, x: float, height: float, word: str) -> None:
    """The word of a value: ends above and below their axis, what is between beside it."""
    if height in (0.0, 1.0):
        below = height == 0.0
        place, to = (x, -0.04 if below else 1.04), "top" if below else "bottom"
        axes.text(*place, word, ha="center", va=to, fontsize=7)
    else:
        axes.text(x + 0.03, height, word, ha="left", va="center", fontsize=7)


def _lines(search: CellPoints, points: pd.DataFrame) -> np.ndarray:
    """Heights in [0, 1], shape (points, fields); nan where a point has no value."""
    columns = [_heights(points[name], search.ranges[name]) for name in search.fields]
    return np.column_stack(columns) if columns else np.empty((len(points), 0))


def _heights(values: pd.Series, given: Range) -> np.ndarray:
    if given.kind == "choice":
        last = max(len(given.choices) - 1, 1)
        return np.array(
            [np.nan if pd.isna(v) else given.choices.index(v) / last for v in values], float
        )
    numbers, low, high = values.astype(float).to_numpy(), given.low, given.high
    if given.is_log:
        numbers, low, high = np.log(numbers), float(np.log(low)), float(np.log(high))
    heights: np.ndarray = (numbers - low) / (high - low if high > low else 1.0)
    return heights


def _ticks(given: Range) -> list[tuple[float, str]]:
    """Heights that have a name: the ends of numbers, every choice."""
    if given.kind == "choice":
        last = max(len(given.choices) - 1, 1)
        return [(index / last, str(choice)) for index, choice in enumerate(given.choices)]
    return [(0.0, f"{given.low:g}"), (1.0, f"{given.high:g}")]
