"""Error against the number of real samples, with log-log slopes beside published rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes

from dgray.data.summary import counted
from dgray.reporting.figures.conditions import conditions, errors_note
from dgray.reporting.figures.looks import Look, looks
from dgray.reporting.figures.theme import (
    Drawing,
    drawing,
    legend_below,
    level,
    log_scale,
    number_ticks,
    title,
    wrapped_grid,
)
from dgray.reporting.figures.view import axis_names, spaced
from dgray.reporting.presentation import PATH_KL, objective
from dgray.reporting.selection import NUM_REAL, base_of, weight_text
from dgray.reporting.slopes import SampleSeries, changed_fields, sample_series
from dgray.reporting.table import StudyTable
from dgray.reporting.text.samples import PUBLISHED, fields_text, left_out_text

_MAX_LINES = 8  # of a panel
_RATES: tuple[tuple[float, str, Any], ...] = (  # exponent, name, line style
    (-0.5, "published rate, exponent −1/2", (0, (4, 2, 1, 2))),
    (-1.0, "published lower bound, exponent −1", (0, (1, 2))),
)
_RATE_COLOUR = "#888888"


def errors_against_samples(table: StudyTable) -> Drawing | None:
    """Draw a row per metric and weight, a panel per objective, a line per configuration."""
    series = sample_series(table)
    if not series:
        return None
    names = list(dict.fromkeys(one.objective for one in series))
    groups = list(dict.fromkeys(one.group for one in series))
    panels = {(group, name): _shown(series, group, name) for group in groups for name in names}
    shown = [one for lines in panels.values() for one in lines]
    look = looks([(one.objective, _key(one)) for one in shown])
    figure, axes = wrapped_grid(len(groups), len(names), width=3.7, height=3.2)
    for row, group in zip(axes, groups, strict=True):
        for panel, name in zip(row, names, strict=True):
            _lines(panel, table, panels[group, name], look)
            _frame(panel, table, [one for one in shown if one.group == group])
            title(panel, objective(name).title, weight_text(group[1]))
    legend_below(figure, axes)
    models = pd.concat([one.models for one in series])
    held = conditions(table, models, [metric for metric, _ in groups])
    return drawing(
        figure,
        "Error against the number of real samples",
        ", ".join([*held, *_first_configuration(table, series)]),
        "One line per configuration of an objective at its last checkpoint, with its log-log "
        "slope (weighted least squares, jackknife over replicates).",
        *_captions(table, series, len(shown)),
        errors_note(models, "Bars"),
        data=_numbers(table, series),
    )


def _first_configuration(table: StudyTable, series: Sequence[SampleSeries]) -> list[str]:
    """Return the text of the first values of the axes that distinguish the series."""
    first: dict[str, object] = {}
    for one in series:
        first |= {axis: v for axis, v in one.configuration.items() if axis not in first}
    text = fields_text(table, first)
    return [f"first configuration: {text}"] if text else []


def _shown(
    series: Sequence[SampleSeries], group: tuple[str, float | None], name: str
) -> list[SampleSeries]:
    """Return the first configuration of an objective and those that differ in one field."""
    own = [one for one in series if (one.group, one.objective) == (group, name)]
    return spaced([one for one in own if len(changed_fields(one, own[0])) < 2], _MAX_LINES)


def _key(one: SampleSeries) -> str:
    return f"{one.objective} {sorted(one.configuration.items())}"


def _lines(
    panel: Axes, table: StudyTable, series: Sequence[SampleSeries], look: Mapping[str, Look]
) -> None:
    handles, labels = [], []
    for one in series:
        own, used = look[_key(one)], one.is_used
        handle = panel.errorbar(
            one.sizes[used],
            np.array([error.value for error in one.errors])[used],
            yerr=np.nan_to_num([error.error for error in one.errors])[used],
            color=own.colour,
            marker=own.marker,
            linewidth=1,
            elinewidth=0.8,
        )
        slope = "no slope" if one.slope is None else str(one.slope.estimate)
        text = fields_text(table, changed_fields(one, series[0])) or "first configuration"
        handles.append(handle)
        labels.append(f"{text}: {slope}" if len(series) > 1 else f"slope {slope}")
    if handles:
        panel.legend(handles, labels, fontsize=0.75 * rcParams["font.size"], loc="lower left")


def _frame(panel: Axes, table: StudyTable, series: Sequence[SampleSeries]) -> None:
    """Scale a panel as the others of its row, and draw the base and the published rates."""
    metric, _ = series[0].group
    sizes = np.unique(np.concatenate([one.sizes[one.is_used] for one in series]))
    values = [e.value for one in series for e in np.array(one.errors, object)[one.is_used]]
    panel.set_xlabel(axis_names(table.axes)[NUM_REAL])
    panel.set_ylabel(f"{table.title(metric)} ({table.unit(metric)})")
    if not len(sizes):
        return
    bases = pd.concat([one.models for one in series])
    if bases["base_trial"].nunique() == 1:
        level(panel, base_of(table, bases), metric)
    for exponent, name, style in _RATES if metric == PATH_KL else ():
        line = max(values) * (sizes / sizes[0]) ** exponent
        panel.plot(sizes, line, color=_RATE_COLOUR, linewidth=0.9, linestyle=style, label=name)
    panel.set_ylim(0.45 * min(values), 1.3 * max(values))
    log_scale(panel, "y")
    number_ticks(panel, sizes, log=True)


def _captions(table: StudyTable, series: Sequence[SampleSeries], num_shown: int) -> list[str]:
    missing = len(series) - num_shown
    return [
        "First configuration: the first value of every axis; others differ in the field named.",
        f"{counted(missing, 'configuration')} with several other fields: in the numbers only."
        if missing
        else "",
        PUBLISHED if series[0].metric == PATH_KL else "",
        left_out_text(table, series),
    ]


def _numbers(table: StudyTable, series: Sequence[SampleSeries]) -> pd.DataFrame:
    names = axis_names(table.axes)
    lines = []
    for one in series:
        configuration = {names[axis]: value for axis, value in one.configuration.items()}
        fit: dict[str, object] = {}
        for name, trend in (("slope", one.slope), ("bend", one.bend)):
            if trend is not None:
                fit |= {name: trend.estimate.value, f"{name}_se": trend.estimate.error}
                fit |= {f"{name}_adjusted_p": trend.adjusted_p}
        weight = "calibrated" if one.weight is None else f"{one.weight:g}"
        for size, error, is_used in zip(one.sizes, one.errors, one.is_used, strict=True):
            identity = {"objective": one.objective, **configuration, "metric": one.metric}
            identity |= {"weight": weight, names[NUM_REAL]: int(size)}
            values = {"error": error.value, "error_se": error.error, "is_used": bool(is_used)}
            lines.append(identity | values | fit)
    return pd.DataFrame(lines)
