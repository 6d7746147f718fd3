"""Estimates of the KL divergence of the base against its exact value."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from dgray.reporting.figures.conditions import errors_note
from dgray.reporting.figures.looks import RULE, Look, looks
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    legend_below,
    number_ticks,
    title,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.presentation import objective
from dgray.reporting.ratios import RatioPoint, ratio_points
from dgray.reporting.selection import OBJECTIVE, number, short
from dgray.reporting.table import StudyTable


def ratio_estimates_against_exact(table: StudyTable) -> Drawing | None:
    """Draw a panel per estimator and a line per objective over the exact values."""
    points = ratio_points(table)
    if not points:
        return None
    series = _series(table, points)
    columns = list(dict.fromkeys(point.column for point in points))
    named = {(str(p.comparison.model["objective"]), series[i]): None for i, p in enumerate(points)}
    look = looks(list(named))
    figure, axes = wrapped_grid(1, len(columns), width=3.6, height=3.2)
    for panel, column in zip(axes[0], columns, strict=True):
        own = [(series[i], p) for i, p in enumerate(points) if p.column == column]
        _panel(panel, own, look)
        title(panel, table.title(column).removeprefix("KL of the base "))
    legend_below(figure, axes)
    return drawing(
        figure,
        "Estimates of the KL of the base by discriminators",
        "",
        "Estimates of discriminators at their last checkpoint against the exact value, in nats. "
        "Grey line: equality. Filled: significantly different from the exact value.",
        errors_note(table.models),
        data=_numbers(points, series),
    )


def _series(table: StudyTable, points: list[RatioPoint]) -> list[str]:
    """Return the name of the line of each point: objective and axes, but for those of the data."""
    models = pd.DataFrame([point.comparison.model for point in points])
    axes = [
        axis
        for axis in table.axes
        if not axis.startswith(("data.", "base.", OBJECTIVE))
        and models[axis].dropna().nunique() > 1
    ]
    return [
        ", ".join(
            [objective(str(model["objective"])).title]
            + [f"{short(axis)} {number(model[axis])}" for axis in axes if pd.notna(model[axis])]
        )
        for _, model in models.iterrows()
    ]


def _panel(axes: Axes, points: list[tuple[str, RatioPoint]], look: dict[str, Look]) -> None:
    lines: dict[str, list[RatioPoint]] = {}
    for name, point in points:
        lines.setdefault(name, []).append(point)
    for name, line in lines.items():
        line.sort(key=lambda point: point.exact.value)
        own, x = look[name], [point.exact.value for point in line]
        axes.plot(x, [p.estimate.value for p in line], color=own.colour, linewidth=0.9, alpha=0.7)
        for index, point in enumerate(line):
            axes.errorbar(
                x[index],
                point.estimate.value,
                yerr=max(point.estimate.error, 0.0),
                fmt=own.marker,
                color=own.colour,
                markerfacecolor=own.colour if point.comparison.sign else "white",
                label=name if index == 0 else None,
            )
    exact = sorted({round(point.exact.value, 3) for _, point in points})
    axes.plot(exact, exact, color=RULE, linewidth=1, zorder=0)
    value_scale(axes, pd.Series([p.estimate.value for _, p in points] + exact))
    number_ticks(axes, [float(f"{value:.3g}") for value in exact], log=len(exact) > 2)
    if len(exact) == 1:
        axes.set_xlim(0, 2 * exact[0])
    axes.set_xlabel("exact (nats)")
    axes.set_ylabel("estimate (nats)")


def _numbers(points: list[RatioPoint], series: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "estimator": point.column,
            "discriminator": name,
            "trial": point.comparison.model["trial"],
            "epoch": point.comparison.model["epoch"],
            "exact": point.exact.value,
            "exact_se": point.exact.error,
            "estimate": point.estimate.value,
            "estimate_se": point.estimate.error,
            "difference": point.comparison.estimate.value,
            "difference_se": point.comparison.estimate.error,
            "adjusted_p": point.comparison.adjusted_p,
        }
        for point, name in zip(points, series, strict=True)
    )
