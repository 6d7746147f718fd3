"""Change of each metric against the cost of training, with the Pareto front."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.comparisons import compare, compared_metrics
from dgray.reporting.costs import CostPoint, compares_costs, cost_points
from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.looks import BASE_LINE, Look, looks
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    legend_below,
    log_scale,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.presentation import BASE, objective
from dgray.reporting.table import StudyTable


def metrics_against_cost(table: StudyTable) -> Drawing | None:
    """Draw a panel per metric and a line per correction over its checkpoints."""
    if not compares_costs(table.models):
        return None
    comparisons = compare(table)
    points = {name: cost_points(comparisons, name) for name in compared_metrics(table)}
    points = {name: of_metric for name, of_metric in points.items() if of_metric}
    if not points:
        return None
    names = table.models["objective"].unique()  # of all models, as in the other figures
    look = looks([(name, objective(name).title) for name in names])
    figure, axes = wrapped_grid(1, len(points), width=4.4, height=3.4)
    for panel, (metric, of_metric) in zip(axes[0], points.items(), strict=True):
        _panel(panel, of_metric, look)
        title(panel, table.title(metric))
        panel.set_xlabel("training FLOPs per replicate")
        panel.set_ylabel(f"change against the base ({table.unit(metric) or 'number'})")
    legend_below(figure, axes)
    return drawing(
        figure,
        "Gain against the cost of training",
        "",
        "One line per correction over its checkpoints, at the weight that is best on the "
        "validation split (without a value there: nearest to 1).",
        "Steps: the Pareto front, below which no model of that cost lies (costs within 5 % are "
        "equal). Filled: significantly different from the base.",
        errors_note(table.models),
        data=_numbers(points),
    )


def _panel(axes: Axes, points: list[CostPoint], look: dict[str, Look]) -> None:
    lines: dict[str, list[CostPoint]] = {}
    for point in points:
        lines.setdefault(str(point.comparison.model["trial"]), []).append(point)
    for line in lines.values():
        label = objective(line[0].objective).title
        own = look[label]
        x = [point.flops for point in line]
        y = [point.comparison.estimate.value for point in line]
        axes.plot(x, y, color=own.colour, linewidth=0.9, alpha=0.7)
        for index, point in enumerate(line):
            error = point.comparison.estimate.error
            axes.errorbar(
                point.flops,
                y[index],
                yerr=error if np.isfinite(error) else 0.0,
                fmt=own.marker,
                color=own.colour,
                markerfacecolor=own.colour if point.comparison.sign else "white",
                label=label if index == 0 else None,
            )
    front = [point for point in points if point.is_front]
    if front:
        x = [point.flops for point in front] + [points[-1].flops]
        y = [point.comparison.estimate.value for point in front]
        axes.step(x, [*y, y[-1]], where="post", color="black", linewidth=0.8, label="Pareto front")
    axes.axhline(0, color=BASE.colour, linewidth=1, linestyle=BASE_LINE)
    log_scale(axes, "x")
    values = np.array([point.comparison.estimate.value for point in points])
    errors = np.nan_to_num([point.comparison.estimate.error for point in points])
    ends = pd.Series(np.concatenate([values - errors, values + errors]))
    value_scale(axes, ends, error=float(np.median(errors)))


def _numbers(points: dict[str, list[CostPoint]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "metric": metric,
            "objective": point.objective,
            "trial": point.comparison.model["trial"],
            "epoch": point.comparison.model["epoch"],
            "guidance_weight": point.comparison.model["guidance_weight"],
            "train_flops": point.flops,
            "change": point.comparison.estimate.value,
            "change_se": point.comparison.estimate.error,
            "adjusted_p": point.comparison.adjusted_p,
            "is_front": point.is_front,
        }
        for metric, of_metric in points.items()
        for point in of_metric
    )
