"""Validation of single values and sections, which repairs values so that all mistakes are found.

pydantic does not check the rules of a section while one of its fields is invalid. So an invalid
value is reported, replaced as its message suggests (or by its default), and the study is validated
again. Rules that read a repaired value are not reported: one mistake makes one message.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from dgray.config.reading.axes import (
    all_axes,
    axis_problems,
    find_axes,
    one_at_a_time,
    resolve,
    section_at,
)
from dgray.config.reading.diagnostics import Diagnostic, FieldPath, dotted
from dgray.config.reading.document import Document
from dgray.config.reading.explain import Broken, explain, merge
from dgray.config.reading.schema import kind_of, selected
from dgray.config.study import StudyConfig

MAX_PROBLEMS = 100  # after which the others are not looked for: a few are listed
# Values of required fields that are missing or invalid, so that the rest can be checked.
_PLACEHOLDERS: Mapping[FieldPath, str] = {("name",): "study", ("data", "kind"): "mixture"}


@dataclass(frozen=True)
class Validation:
    """Validation in progress: the document as repaired so far, and its diagnostics."""

    document: Document
    diagnostics: set[Diagnostic] = field(default_factory=set)
    repaired: set[FieldPath] = field(default_factory=set)

    @classmethod
    def of(cls, document: Document) -> Validation:
        """Start the validation of a copy of ``document``."""
        values, places = copy.deepcopy(document.values), dict(document.places)
        return cls(Document(document.name, values, places))

    def report(self, path: FieldPath, rule: str, *, written: FieldPath | None = None) -> None:
        """Add a problem of the field ``path``; its place is that of ``written``, if given."""
        self.diagnostics.add(Diagnostic(self.document.place(written or path), dotted(path), rule))

    def is_repaired(self, path: FieldPath) -> bool:
        """Return True if ``path``, or a value in or around it, was repaired."""
        return any(path[: len(m)] == m or m[: len(path)] == path for m in self.repaired)

    def report_sections(self, broken: Iterable[Broken], values: dict[str, Any]) -> None:
        """Add broken rules between fields of a section, unless they name a repaired field."""
        for item in broken:
            names = set(re.findall(r"\w+", item.rule))
            depth = len(item.path)
            if not any(m[:depth] == item.path and names & set(m[depth:]) for m in self.repaired):
                path = _blamed(item, values) or item.path
                rule = item.rule
                if path and rule.startswith(f"{path[-1]} must "):  # redundant
                    rule = rule.removeprefix(f"{path[-1]} ")
                self.report(path, rule)


def configure(values: dict[str, Any]) -> StudyConfig | list[Broken]:
    """Return the configuration of ``values``, which have no axes, or all broken rules."""
    try:
        return StudyConfig.model_validate_json(json.dumps(_with_kinds(values)))
    except ValidationError as error:
        details = error.errors()[: MAX_PROBLEMS + 1]
        return merge([explain(item, values) for item in details])


def _with_kinds(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the ``kind`` of sections that state none but have one."""
    filled = dict(values)
    for name, info in StudyConfig.model_fields.items():
        section = values.get(name)
        model = selected(info.annotation, section)
        kind = None if model is None else kind_of(model)
        if isinstance(section, dict) and kind is not None:
            filled[name] = {"kind": kind, **section}
    return filled


def repair(validation: Validation) -> bool:
    """Report and repair until every value on its own is valid; False if that is impossible."""
    values = validation.document.values
    before: list[Broken] = []
    while True:
        validation.diagnostics.update(axis_problems(validation.document))
        if len(validation.diagnostics) > MAX_PROBLEMS:
            return False
        for path, axis in all_axes(values).items():
            if not axis:
                _drop(validation, path)
        broken = _broken(values)
        if not broken:
            return True
        if broken == before:  # the repairs had no effect
            return False
        before = broken
        _report(validation, broken)
        outcomes = [_repair_value(validation, item) for item in broken]
        if not any(outcomes):
            return False


def _broken(values: dict[str, Any]) -> list[Broken]:
    """Return the broken rules of each value of each axis, with the first values of the others."""
    broken: list[Broken] = []
    for taken in one_at_a_time(find_axes(values)):
        if len(broken) > MAX_PROBLEMS:
            break
        outcome = configure(resolve(values, taken))
        if not isinstance(outcome, StudyConfig):
            broken += [_on_axis(item, taken) for item in outcome]
    return list(dict.fromkeys(broken))


def _on_axis(broken: Broken, taken: Mapping[FieldPath, int]) -> Broken:
    """Return the broken rule with its path in the study as written."""
    path = broken.path
    for axis, index in taken.items():
        if path[: len(axis)] == axis:
            path = (*axis, index, *path[len(axis) :])
    return replace(broken, path=path)


def _report(validation: Validation, broken: Iterable[Broken]) -> None:
    """Add broken rules, unless a repair caused them."""
    for item in broken:
        if item.error == "value_error":
            validation.report_sections([item], validation.document.values)
        elif not validation.is_repaired(item.path):
            validation.report(item.path, item.rule)


def _repair_value(validation: Validation, broken: Broken) -> bool:
    """Repair a broken value; False if nothing changed."""
    if broken.error == "value_error":
        blamed = _blamed(broken, validation.document.values)
        return blamed is not None and _drop(validation, blamed)
    if broken.error == "missing":
        return _fill(validation, broken.path)
    if broken.suggestion is None:
        return _drop(validation, broken.path)
    return _apply_suggestion(validation, broken, broken.suggestion)


def _apply_suggestion(validation: Validation, broken: Broken, suggestion: str) -> bool:
    if validation.is_repaired(broken.path):  # dropped with another of its broken entries
        return False
    holder, last = section_at(validation.document.values, broken.path), broken.path[-1]
    if broken.error != "extra_forbidden":
        holder[last] = suggestion
        return True
    value = holder.pop(last)
    if suggestion not in holder:
        holder[suggestion] = value
        places, new = validation.document.places, (*broken.path[:-1], suggestion)
        for path, place in list(places.items()):
            if path[: len(new)] == broken.path:
                places[(*new, *path[len(new) :])] = place
    return True


def _fill(validation: Validation, path: FieldPath) -> bool:
    if path not in _PLACEHOLDERS:
        return False
    section_at(validation.document.values, path)[path[-1]] = _PLACEHOLDERS[path]
    validation.repaired.add(path)
    return True


def _drop(validation: Validation, path: FieldPath) -> bool:
    """Remove the field that holds ``path``, so that it has its default; False if absent."""
    while isinstance(path[-1], int):
        path = path[:-1]
    try:
        del section_at(validation.document.values, path)[path[-1]]
    except KeyError:  # dropped with another of its broken entries
        return False
    validation.repaired.add(path)
    return True


def _blamed(broken: Broken, values: dict[str, Any]) -> FieldPath | None:
    """Return the first field of the section that the rule names, if there is one."""
    section: Any = values
    try:
        for part in broken.path:
            section = section[part]
    except (LookupError, TypeError):  # dropped with another of its broken entries
        return None
    if not isinstance(section, dict):
        return broken.path
    names = [word for word in re.findall(r"\w+", broken.rule) if word in section]
    return (*broken.path, names[0]) if names else None
