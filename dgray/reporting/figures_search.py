"""Figures of a search: history, Pareto front, importances, parallel coordinates.

Importances are Optuna's (PED-ANOVA, Watanabe et al. 2023, arXiv 2304.10255).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from dgray.reporting.search_table import CellPoints
from dgray.reporting.theme import COLOURS, grid, legend_below, new_figure
from dgray.reporting.views import short

MIN_POINTS = 8  # for importances: below, they are noise


def history(searches: tuple[CellPoints, ...]) -> Figure | None:
    """Every point on validation, the best so far, and what that is on held-out data."""
    shown = [search for search in searches if len(search.done)]
    if not shown:
        return None
    figure = new_figure(1, len(shown), width=3.6, height=2.9)
    axes = grid(figure, 1, len(shown))
    for panel, search in zip(axes[0], shown, strict=True):
        _history(panel, search)
    legend_below(figure, axes)
    figure.suptitle("History of each search", fontsize=11)
    return figure


def _history(axes: Axes, search: CellPoints) -> None:
    done, metric = search.done, search.first_metric
    values = done[f"validation:{metric}"].astype(float)
    colour = _colour(search)
    best = values.cummin() if search.is_lower_better else values.cummax()
    axes.scatter(done["number"], values, s=14, color=colour, alpha=0.45, label="point, validation")
    axes.step(done["number"], best, where="post", color=colour, label="best so far, validation")
    held_out = done[metric].astype(float).where(values == best).ffill()
    error = done[f"{metric}_se"].astype(float).where(values == best).ffill()
    if held_out.notna().any():
        axes.step(
            done["number"],
            held_out,
            where="post",
            color="#222222",
            linestyle="--",
            label="the same on held-out data",
        )
        axes.fill_between(
            done["number"].to_numpy(float),
            (held_out - error).to_numpy(float),
            (held_out + error).to_numpy(float),
            step="post",
            color="#222222",
            alpha=0.12,
            linewidth=0,
        )
    stopped = search.points[search.points["state"] == "PRUNED"]
    for at in stopped["number"]:
        axes.axvline(at, color="#BBBBBB", linewidth=0.6)
    axes.set_title(search.label, fontsize=9)
    axes.set_xlabel("point")
    axes.set_ylabel(metric)


def pareto_front(searches: tuple[CellPoints, ...]) -> Figure | None:
    """Two metrics of every point on validation, the front of each search as a line."""
    several = [s for s in searches if len(s.metrics) > 1 and len(s.done)]
    if not several:
        return None
    figure = new_figure(1, 1, width=5.2, height=3.6)
    panel = grid(figure, 1, 1)[0, 0]
    for search in several:
        first, second = list(search.metrics)[:2]
        x, y = (search.done[f"validation:{name}"].to_numpy(float) for name in (first, second))
        colour = _colour(search)
        panel.scatter(x, y, s=14, color=colour, alpha=0.45)
        signs = [1 if search.metrics[name] == "minimize" else -1 for name in (first, second)]
        front = _front(np.stack([signs[0] * x, signs[1] * y], axis=1))
        order = front[np.argsort(x[front])]
        panel.plot(x[order], y[order], color=colour, marker="o", label=search.label)
        panel.set_xlabel(first)
        panel.set_ylabel(second)
    legend_below(figure, np.array([[panel]]))
    figure.suptitle("Pareto front on the validation split", fontsize=11)
    return figure


def _front(values: np.ndarray) -> np.ndarray:
    """Indices of rows that no other row beats in both columns (less is better)."""
    beaten = [bool(((values <= row).all(1) & (values < row).any(1)).any()) for row in values]
    return np.flatnonzero(~np.array(beaten))


def importances(searches: tuple[CellPoints, ...]) -> Figure | None:
    """How much each searched field matters to the first metric."""
    found = {s.label: (s, _importances(s)) for s in searches if len(s.done) >= MIN_POINTS}
    found = {label: pair for label, pair in found.items() if pair[1]}
    if not found:
        return None
    figure = new_figure(1, len(found), width=3.8, height=2.6)
    axes = grid(figure, 1, len(found))
    for panel, (label, (search, values)) in zip(axes[0], found.items(), strict=True):
        names = list(values)[::-1]
        panel.barh([short(n) for n in names], [values[n] for n in names], color=_colour(search))
        panel.set_title(label, fontsize=9)
        panel.set_xlabel("importance (PED-ANOVA)")
        panel.set_xlim(0, 1)
    figure.suptitle("Importance of the searched fields, by validation", fontsize=11)
    return figure


def _importances(search: CellPoints) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done = search.done
    fields = [f for f in search.fields if done[f].notna().all() and done[f].nunique() > 1]
    if not fields:
        return {}
    study = optuna.create_study(direction="minimize" if search.is_lower_better else "maximize")
    distributions: dict[str, Any] = {name: _distribution(done[name]) for name in fields}
    for _, row in done.iterrows():
        study.add_trial(
            optuna.trial.create_trial(
                params={name: _plain(row[name]) for name in fields},
                distributions=distributions,
                value=float(row[f"validation:{search.first_metric}"]),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _distribution(values: pd.Series) -> object:
    """The range that was seen; logarithmic where values span more than a factor of ten."""
    import optuna

    if not pd.api.types.is_numeric_dtype(values):
        return optuna.distributions.CategoricalDistribution(sorted(set(values), key=str))
    low, high = values.min(), values.max()
    is_log = bool(low > 0 and high > 10 * low)
    if pd.api.types.is_integer_dtype(values):
        return optuna.distributions.IntDistribution(int(low), int(high), log=is_log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=is_log)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def parallel_coordinates(searches: tuple[CellPoints, ...]) -> Figure | None:
    """A line a point over the searched fields, dark where the first metric is good."""
    shown = [search for search in searches if len(search.done) > 1]
    if not shown:
        return None
    figure = new_figure(len(shown), 1, width=1.3 * (2 + max(len(s.fields) for s in shown)))
    axes = grid(figure, len(shown), 1)
    for panel, search in zip(axes[:, 0], shown, strict=True):
        _parallel(panel, search)
    figure.suptitle("Searched fields of every point; dark is good on validation", fontsize=11)
    return figure


def _parallel(axes: Axes, search: CellPoints) -> None:
    done = search.done
    values = done[f"validation:{search.first_metric}"].astype(float)
    rank = values.rank(ascending=not search.is_lower_better).to_numpy()
    shade = Normalize(0, len(rank))
    heights = {name: _heights(done[name]) for name in search.fields}
    at = np.arange(len(heights))
    for index in np.argsort(rank):
        line = np.array([height[0][index] for height in heights.values()])
        known = ~np.isnan(line)
        axes.plot(
            at[known],
            line[known],
            color=_colour(search),
            alpha=float(0.08 + 0.8 * shade(rank[index]) ** 3),
            linewidth=1.0,
        )
    for x, (_, low, high) in zip(at, heights.values(), strict=True):
        axes.text(float(x), -0.06, low, ha="center", va="top", fontsize=7)
        axes.text(float(x), 1.03, high, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(at, [short(name) for name in heights])
    axes.tick_params(axis="x", pad=12)
    axes.set_yticks([])
    axes.set_ylim(-0.15, 1.15)
    axes.set_title(search.label, fontsize=9)


def _heights(values: pd.Series) -> tuple[np.ndarray, str, str]:
    """Positions in [0, 1] (nan where a point has no value), and the ends in words."""
    if not pd.api.types.is_numeric_dtype(values):
        names = sorted({str(v) for v in values.dropna()})
        place = {name: i / max(len(names) - 1, 1) for i, name in enumerate(names)}
        found = np.array([np.nan if pd.isna(v) else place[str(v)] for v in values])
        return found, names[0] if names else "", names[-1] if len(names) > 1 else ""
    given = values.astype(float).to_numpy()
    low, high = np.nanmin(given), np.nanmax(given)
    words = f"{low:.3g}", f"{high:.3g}"
    if low > 0 and high > 10 * low:
        given, low, high = np.log(given), np.log(low), np.log(high)
    return (given - low) / (high - low if high > low else 1.0), *words


def _colour(search: CellPoints) -> str:
    """That of the objective, whose name the label begins with."""
    return COLOURS.get(search.label.split(",")[0], "#555555")
