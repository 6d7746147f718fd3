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
    series = sample_series(table)
    groups = {one.group: [s for s in series if s.group == one.group] for one in series}
    firsts = {group: _firsts(of_group) for group, of_group in groups.items()}
    pairs = [(one, first[0]) for first in firsts.values() for one in first[1:]]
    trends = adjust([difference(one, reference) for one, reference in pairs])
    differences = {id(one): trend for (one, _), trend in zip(pairs, trends, strict=True)}
    for group, of_group in groups.items():
        fitted = [one for one in of_group if one.slope is not None]
        if not fitted:
            continue
        metric, weight = group
        sizes = fitted[0].sizes
        text = (
            f"From {sizes[0]:g} to {sizes[-1]:g} real samples, the {table.title(metric)} at "
            f"{weight_text(weight, 'the calibrated weight')} has these log-log slopes: "
            f"{_slopes(table, firsts[group], differences)}. {_range(table, fitted)} "
            f"{PUBLISHED if metric == PATH_KL else ''} {left_out_text(table, of_group)}"
        )
        yield Statement(SAMPLES, " ".join(text.split()), _tone(fitted))


def fields_text(table: StudyTable, configuration: Mapping[str, object]) -> str:
    """Return the values of fields, as in ``width 16, patience 0``."""
    names = axis_names(table.axes)
    values = configuration.items()
    return ", ".join(f"{names[axis]} {value_text(value)}" for axis, value in values)


def left_out_text(table: StudyTable, series: Sequence[SampleSeries]) -> str:
    """Return a sentence that names errors without a logarithm; empty if all have one."""
    cases = [
        f"{_name(table, one)} at {weight_text(one.weight, 'calibrated')} with {size:g} samples "
        f"({error}, {table.title(one.metric)})"
        for one in series
        for size, error, is_used in zip(one.sizes, one.errors, one.is_used, strict=True)
        if not is_used
    ]
    if not cases:
        return ""
    more = [f"{len(cases) - _MAX_NAMED} more"] if len(cases) > _MAX_NAMED else []
    return (
        "Left out, as not above zero by two standard errors or unreliable: "
        f"{listed([*cases[:_MAX_NAMED], *more])}."
    )


def _firsts(series: Sequence[SampleSeries]) -> list[SampleSeries]:
    """Return the first configuration of each objective that has a slope."""
    firsts: dict[str, SampleSeries] = {}
    for one in series:
        if one.slope is not None:
            firsts.setdefault(one.objective, one)
    return list(firsts.values())


def _slopes(
    table: StudyTable, firsts: Sequence[SampleSeries], differences: dict[int, Trend | None]
) -> str:
    reference = in_sentence(objective(firsts[0].objective))
    relations = {-1: "steeper than", 1: "flatter than", 0: "not significantly different from"}
    parts = []
    for one in firsts:
        against = differences.get(id(one))
        compared = (
            f", {relations[against.sign]} that of {reference} (by {against.estimate.signed})"
            if against is not None
            else ""
        )
        parts.append(f"{_named(table, one)}{compared}")
    return "; ".join(parts)


def _range(table: StudyTable, fitted: Sequence[SampleSeries]) -> str:
    """Return the steepest and flattest configuration, and how many differ from 0 or bend."""
    ordered = sorted(fitted, key=lambda one: one.slope.estimate.value if one.slope else 0.0)
    signs = [one.slope.sign for one in fitted if one.slope is not None]
    extremes = (
        f"; the steepest is {_named(table, ordered[0])}, the flattest {_named(table, ordered[-1])}"
        if len(fitted) > 1
        else ""
    )
    bends = [one.bend.sign for one in fitted if one.bend is not None]
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


def _named(table: StudyTable, one: SampleSeries) -> str:
    """Return the name of a series with its slope."""
    return f"{_name(table, one)} {'' if one.slope is None else one.slope.estimate}"


def _name(table: StudyTable, one: SampleSeries) -> str:
    fields = fields_text(table, one.configuration)
    return f"{in_sentence(objective(one.objective))}{fields and f' ({fields})'}"


def _tone(fitted: Sequence[SampleSeries]) -> Tone:
    signs = {one.slope.sign for one in fitted if one.slope is not None}
    return "harm" if 1 in signs else "gain" if -1 in signs else "neutral"
