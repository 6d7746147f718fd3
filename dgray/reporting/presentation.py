"""Presentation of objectives, samplers and columns: that of the catalogue, or a default.

A run may hold objectives, samplers and metrics of a package that is not installed where the report
is built. Their titles derive from their names, and what a column holds is read from the metadata
of its stored field.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pyarrow as pa

from dgray.catalogue import (
    CORRECTIONS,
    METRICS,
    OBJECTIVES,
    SAMPLERS,
    SOURCES,
    ColumnSpec,
    MetricSpec,
    ObjectiveSpec,
    SamplerSpec,
)
from dgray.record.row import row_columns
from dgray.record.row_schema import column_of

BASE = ObjectiveSpec(
    name="base",
    title="base (unguided)",
    subject="The unguided base",
    colour="#555555",
    is_trained=False,
)
DATA_COLOUR = "#222222"
PATH_KL = "path_kl"  # the metric of every study, by which settings are compared and selected
SELECTION = "validation_change"  # column by which settings are selected: its change on validation
# Of objectives and corrections without a colour of their own; no other has one of these.
_OTHER_COLOURS = ("#CC6677", "#88CCEE", "#DDCC77", "#5C4033", "#6A5ACD")


def objective(name: str) -> ObjectiveSpec:
    """Return the specification of an objective, a correction, a control or the base."""
    if name == BASE.name:
        return BASE
    spec = OBJECTIVES[name] if name in OBJECTIVES else _of_correction(name)
    return replace(
        spec,
        subject=spec.subject or spec.title[0].upper() + spec.title[1:],
        colour=spec.colour or _OTHER_COLOURS[zlib.crc32(name.encode()) % len(_OTHER_COLOURS)],
    )


def _of_correction(name: str) -> ObjectiveSpec:
    """Return how a method other than guidance is presented, perhaps with its objective."""
    first, hyphen, of_discriminator = name.partition("-")
    if first not in CORRECTIONS:
        return ObjectiveSpec(name=name, title=name.replace("_", " "))
    correction = CORRECTIONS[first]
    title, subject, is_trained = correction.title, correction.subject, correction.is_trained
    options: tuple[str, ...] = ()
    if hyphen:
        inner = objective(of_discriminator)
        title, subject = f"{title} by {in_sentence(inner)}", ""
        is_trained, options = inner.is_trained, inner.options
    return ObjectiveSpec(
        name=name,
        title=title,
        subject=subject,
        colour="" if hyphen else correction.colour,
        marker=correction.marker,
        is_trained=is_trained,
        options=options,
    )


def in_sentence(spec: ObjectiveSpec) -> str:
    """Return the name of an objective or a correction inside a sentence, with its article."""
    if spec.subject.startswith("The "):
        return "the " + spec.subject.removeprefix("The ")
    return spec.title


def objective_rank(name: str) -> int:
    """Return the position in tables: base, controls, others in the order of the catalogue."""
    names = (BASE.name, *OBJECTIVES.names, *CORRECTIONS.names)
    first = name.partition("-")[0]
    rank = names.index(first) if first in names else len(names)
    return rank + (len(names) + 1) * objective(name).is_trained


def series_title(series: str) -> str:
    """Return the title of a series: ``kl, gamma 2`` is ``KL objective, gamma 2``."""
    name, comma, rest = series.partition(",")
    first = name.partition("-")[0]
    is_known = name in OBJECTIVES or first in CORRECTIONS
    return (objective(name).title if is_known else name) + comma + rest


def sampler_spec(name: str) -> SamplerSpec:
    """Return the specification of a sampler."""
    return SAMPLERS[name] if name in SAMPLERS else SamplerSpec(name=name, title=name)


def sampler_rank(name: str) -> int:
    """Return the position in tables, in the order of the catalogue."""
    return SAMPLERS.names.index(name) if name in SAMPLERS else len(SAMPLERS.names)


def sampler_preference(name: str) -> tuple[bool, bool, int]:
    """Return the rank of a sampler where one is shown: deterministic before stochastic ones."""
    spec = sampler_spec(name)
    return spec.is_stochastic, spec.is_two_stage, sampler_rank(name)


@cache
def metrics() -> tuple[MetricSpec, ...]:
    """Return the metrics of the catalogue in the order of presentation."""
    return tuple(sorted(METRICS, key=lambda metric: [*SOURCES].index(metric.source)))


@cache
def metric_columns() -> dict[str, ColumnSpec]:
    """Return the columns of all metrics by name, in the order of presentation."""
    return {column.name: column for metric in metrics() for column in metric.columns}


@cache
def divergences() -> dict[str, MetricSpec]:
    """Return the metrics that are KL divergences to the data with a paired change, by name."""
    return {
        metric.name: metric
        for metric in metrics()
        if any(column.name == f"{metric.name}_change" for column in metric.columns)
    }


@cache
def distances() -> dict[str, MetricSpec]:
    """Return the metrics that are distances of features to those of the data, by name."""
    return {m.name: m for m in metrics() if m.source == "features" and m.better == "lower"}


@cache
def ratio_estimates() -> tuple[str, ...]:
    """Return the columns of estimates of the KL divergence of the base by a discriminator."""
    return tuple(column.name for column in _ratio_columns() if not column.is_exact)


@cache
def exact_ratio() -> str:
    """Return the column of the exact value of what ``ratio_estimates`` estimate."""
    return next(column.name for column in _ratio_columns() if column.is_exact)


def _ratio_columns() -> list[ColumnSpec]:
    return [c for metric in metrics() if metric.source == "ratio" for c in metric.columns]


@cache
def columns_of_samples() -> frozenset[str]:
    """Return the columns of metrics that are computed from generated samples."""
    return frozenset(
        column.name
        for metric in metrics()
        if metric.source in ("samples", "features")
        for column in metric.columns
    )


@cache
def columns_of_stochastic_samplers() -> frozenset[str]:
    """Return the columns of metrics that only stochastic samplers have, with standard errors."""
    return frozenset(
        name
        for metric in metrics()
        if metric.needs_sampler == "stochastic"
        for column in metric.columns
        for name in (column.name, f"{column.name}_se")
    )


@cache
def validation_columns() -> frozenset[str]:
    """Return the columns of metrics on the validation split."""
    return frozenset(
        column.validation for column in metric_columns().values() if column.validation
    )


def selection_columns() -> tuple[str, ...]:
    """Return the columns that can select a setting: on validation, or else on held-out data."""
    levels = [name for name, metric in divergences().items() if metric.source in ("path", "flow")]
    return (SELECTION, *levels)


def score_names(columns: Iterable[str]) -> list[str]:
    """Return those columns that hold a metric: a number of the catalogue, or one that it lacks."""
    present = list(columns)
    own = [column.name for column in metric_columns().values() if column.type == "float"]
    other = [
        name for name in present if name not in _built_in_columns() and not name.endswith("_se")
    ]
    return [name for name in (*own, SELECTION, *other) if name in present]


def depends_on_sampler(name: str) -> bool:
    """Return whether a column depends on the sampler; True for columns not in the catalogue."""
    return name in columns_of_samples() or name not in _built_in_columns()


def column_spec(field: pa.Field) -> ColumnSpec:
    """Return the specification of a column: that of the catalogue, or from its metadata."""
    named = _built_in_columns() | metric_columns()
    if field.name in named:
        return named[field.name]
    return replace(column_of(field), in_summary=True)


@cache
def _built_in_columns() -> dict[str, ColumnSpec]:
    return {column.name: column for column in row_columns()}
