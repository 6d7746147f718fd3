"""Training axes: lists where the models expect a single value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dgray.config.reading.diagnostics import Diagnostic, FieldPath, dotted
from dgray.config.reading.document import Document
from dgray.config.reading.schema import (
    NEVER_AXES,
    is_tag,
    list_depth,
    takes_axis,
    value_depth,
    walk,
)

Axes = Mapping[FieldPath, list[Any]]
EVALUATION_AXES = (
    "guidance_weight",
    "sampler",
    "num_steps",
    "guidance_interval",
    "guided_stage",
)


def find_axes(values: dict[str, Any]) -> dict[FieldPath, list[Any]]:
    """Return the training axes with their values, in the order of the models."""
    return {
        path: value
        for path, field, value in walk(values)
        if path[0] not in NEVER_AXES
        and not is_tag(path, field.annotation)
        and takes_axis(field.annotation)
        and value_depth(value) > list_depth(field.annotation)
    }


def all_axes(values: dict[str, Any]) -> dict[FieldPath, list[Any]]:
    """Return the axes that are written as lists, of training and of evaluation."""
    return find_axes(values) | {
        path: value
        for path, _, value in walk(values)
        if path[0] == "evaluate" and path[-1] in EVALUATION_AXES and isinstance(value, list)
    }


def axis_problems(document: Document) -> Iterator[Diagnostic]:
    """Yield the axes that are empty or repeat a value."""
    for path, values in all_axes(document.values).items():
        if not values:
            rule = "an axis must have at least one value, but got []"
            yield Diagnostic(document.place(path), dotted(path), rule)
        seen: set[object] = set()
        for index, value in enumerate(values):
            number_seen = len(seen)
            seen.add(_hashable(value))
            if len(seen) == number_seen:
                item = (*path, index)
                rule = f"an axis must not repeat a value, but got {value!r} twice"
                yield Diagnostic(document.place(item), dotted(item), rule)


def _hashable(value: object) -> object:
    if isinstance(value, dict):
        return tuple((name, _hashable(item)) for name, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def number_of_trials(axes: Axes) -> int:
    """Return the number of combinations of the axes."""
    return math.prod(len(values) for values in axes.values())


def assignments(axes: Axes) -> Iterator[dict[FieldPath, int]]:
    """Yield every combination as an index on each axis; the last axis varies fastest."""
    for indices in itertools.product(*(range(len(values)) for values in axes.values())):
        yield dict(zip(axes, indices, strict=True))


def probed(axes: Axes, domains: Collection[FieldPath]) -> Iterator[dict[FieldPath, int]]:
    """Yield combinations of the axes, each with every probe of a domain once."""
    fixed = {path: values for path, values in axes.items() if path not in domains}
    searched = {path: values for path, values in axes.items() if path in domains}
    for taken in assignments(fixed):
        for probe in one_at_a_time(searched):
            yield taken | probe


def one_at_a_time(axes: Axes) -> Iterator[dict[FieldPath, int]]:
    """Yield the first combination and those that differ from it on one axis."""
    first = dict.fromkeys(axes, 0)
    yield first
    for path, values in axes.items():
        for index in range(1, len(values)):
            yield first | {path: index}


def resolve(
    values: dict[str, Any], assignment: Mapping[FieldPath, int], prefix: FieldPath = ()
) -> dict[str, Any]:
    """Return the study with every axis replaced by its value in ``assignment``."""
    resolved = {}
    for name, value in values.items():
        path = (*prefix, name)
        if path in assignment:
            value = value[assignment[path]]
        resolved[name] = resolve(value, assignment, path) if isinstance(value, dict) else value
    return resolved


def section_at(values: dict[str, Any], path: FieldPath) -> Any:
    """Return the mapping or list that holds the last part of ``path``."""
    section: Any = values
    for part in path[:-1]:
        section = section[part]
    return section
