"""Statements on the error against the number of real samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dgray.data.summary import counted
from dgray.reporting.figures.view import axis_names, value_text
from dgray.reporting.presentation import PATH_KL, in_sentence, objective
from dgray.reporting.selection import weight_text
from dgray.reporting.slopes import (
    SampleSeries,
    Trend,
    adjust,
    difference,
    sample_series,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.text.statement import Statement, Tone, listed

_MAX_NAMED = 8  # errors without a logarithm in a sentence
SAMPLES = "error and number of samples"
PUBLISHED = (
    "Published for mean squared errors of score differences of arbitrarily smooth densities: "
    "exponent −1/2 for a penalised estimator, −1 as the lower bound (Xie, Blanchet and Xu 2026, "
    "arXiv 2608.18237)."
)


def sample_statements(table: StudyTable) -> Iterator[Statement]:
    """Yield a statement for every metric and weight."""
    groups: dict[tuple[str, float | None], list[SampleSeries]] = {}
    for series in sample_series(table):
        groups.setdefault(series.group, []).append(series)
    first_series = {group: _first_of_objectives(members) for group, members in groups.items()}
    pairs = [(series, firsts[0]) for firsts in first_series.values() for series in firsts[1:]]
    trends = adjust([difference(series, reference) for series, reference in pairs])
    differences = {id(series): trend for (series, _), trend in zip(pairs, trends, strict=True)}
    for group, members in groups.items():
        fitted = [series for series in members if series.slope is not None]
        if not fitted:
            continue
        metric, weight = group
        sizes = fitted[0].sizes
        text = (
            f"From {sizes[0]:g} to {sizes[-1]:g} real samples, the {table.title(metric)} at "
            f"{weight_text(weight, 'the calibrated weight')} has these log-log slopes: "
            f"{_slopes(table, first_series[group], differences)}. {_range(table, fitted)} "
            f"{PUBLISHED if metric == PATH_KL else ''} {left_out_text(table, members)}"
        )
        yield Statement(SAMPLES, " ".join(text.split()), _tone(fitted))


def fields_text(table: StudyTable, configuration: Mapping[str, object]) -> str:
    """Return the values of fields, as in ``width 16, patience 0``."""
    names = axis_names(table.axes)
    values = configuration.items()
    return ", ".join(f"{names[axis]} {value_text(value)}" for axis, value in values)


def left_out_text(table: StudyTable, members: Sequence[SampleSeries]) -> str:
    """Return a sentence that names errors without a logarithm; empty if all have one."""
    cases = [
        f"{_name(table, series)} at {weight_text(series.weight, 'calibrated')} with {size:g} "
        f"samples ({error}, {table.title(series.metric)})"
        for series in members
        for size, error, is_used in zip(series.sizes, series.errors, series.is_used, strict=True)
        if not is_used
    ]
    if not cases:
        return ""
    more = [f"{len(cases) - _MAX_NAMED} more"] if len(cases) > _MAX_NAMED else []
    return (
        "Left out, as not above zero by two standard errors or unreliable: "
        f"{listed([*cases[:_MAX_NAMED], *more])}."
    )


def _first_of_objectives(members: Sequence[SampleSeries]) -> list[SampleSeries]:
    """Return the first configuration of each objective that has a slope."""
    first_series: dict[str, SampleSeries] = {}
    for series in members:
        if series.slope is not None:
            first_series.setdefault(series.objective, series)
    return list(first_series.values())


def _slopes(
    table: StudyTable, first_series: Sequence[SampleSeries], differences: dict[int, Trend | None]
) -> str:
    reference = in_sentence(objective(first_series[0].objective))
    relations = {-1: "steeper than", 1: "flatter than", 0: "not significantly different from"}
    parts = []
    for series in first_series:
        trend = differences.get(id(series))
        comparison = (
            f", {relations[trend.sign]} that of {reference} (by {trend.estimate.signed})"
            if trend is not None
            else ""
        )
        parts.append(f"{_with_slope(table, series)}{comparison}")
    return "; ".join(parts)


def _range(table: StudyTable, fitted: Sequence[SampleSeries]) -> str:
    """Return the steepest and flattest configuration, and how many differ from 0 or bend."""
    ordered = sorted(
        fitted, key=lambda series: series.slope.estimate.value if series.slope else 0.0
    )
    signs = [series.slope.sign for series in fitted if series.slope is not None]
    extremes = (
        f"; the steepest is {_with_slope(table, ordered[0])}, "
        f"the flattest {_with_slope(table, ordered[-1])}"
        if len(fitted) > 1
        else ""
    )
    bends = [series.bend.sign for series in fitted if series.bend is not None]
    bent = (
        f" In {sum(map(abs, bends))} of {len(bends)} the line bends significantly, so that the "
        "slope is a mean over the range and no limit."
        if any(bends)
        else ""
    )
    return (
        f"Of {counted(len(fitted), 'configuration')}, the error falls significantly in "
        f"{signs.count(-1) or 'none'} and rises in {signs.count(1) or 'none'}{extremes}.{bent}"
    )


def _with_slope(table: StudyTable, series: SampleSeries) -> str:
    """Return the name of a series with its slope."""
    return f"{_name(table, series)} {'' if series.slope is None else series.slope.estimate}"


def _name(table: StudyTable, series: SampleSeries) -> str:
    fields = fields_text(table, series.configuration)
    return f"{in_sentence(objective(series.objective))}{fields and f' ({fields})'}"


def _tone(fitted: Sequence[SampleSeries]) -> Tone:
    signs = {series.slope.sign for series in fitted if series.slope is not None}
    return "harm" if 1 in signs else "gain" if -1 in signs else "neutral"
