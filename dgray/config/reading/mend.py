"""Finding everything that is wrong with the values of a study, one mistake hiding no other.

A broken value is reported, then mended as its message suggests (or left to its default), and the
study is validated again. What a mended value takes part in is not reported, so that one mistake
makes one message.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
from dgray.config.reading.problem import FieldPath, Problem, dotted
from dgray.config.reading.rules import Broken, explain, merge
from dgray.config.reading.schema import kind_of, selected
from dgray.config.reading.yaml_source import Document
from dgray.config.study import StudyConfig

# Stand-ins for required fields that are missing or unusable, so that the rest can be checked.
_PLACEHOLDERS: Mapping[FieldPath, str] = {("name",): "study", ("data", "kind"): "mixture"}


@dataclass(frozen=True)
class Inquiry:
    """A study under examination: the document as mended so far, and what was found."""

    document: Document
    problems: set[Problem] = field(default_factory=set)
    mended: set[FieldPath] = field(default_factory=set)

    @classmethod
    def of(cls, document: Document) -> Inquiry:
        """Start an inquiry on a copy of ``document``."""
        values, places = copy.deepcopy(document.values), dict(document.places)
        return cls(Document(document.name, values, places))

    def report(self, path: FieldPath, rule: str, *, at: FieldPath | None = None) -> None:
        """Note a broken rule of the field ``path``, which was written at ``at``."""
        self.problems.add(Problem(self.document.place(at or path), dotted(path), rule))

    def is_mended(self, path: FieldPath) -> bool:
        """Whether ``path``, or something in or around it, is no longer what was written."""
        return any(path[: len(m)] == m or m[: len(path)] == path for m in self.mended)

    def report_sections(self, broken: Iterable[Broken], values: dict[str, Any]) -> None:
        """Note broken rules between the fields of a section, unless they name a mended one."""
        for item in broken:
            words = set(re.findall(r"\w+", item.rule))
            depth = len(item.path)
            if not any(m[:depth] == item.path and words & set(m[depth:]) for m in self.mended):
                path = _blamed(item, values) or item.path
                rule = item.rule
                if path and rule.startswith(f"{path[-1]} must "):  # the field is named already
                    rule = rule.removeprefix(f"{path[-1]} ")
                self.report(path, rule)


def configure(values: dict[str, Any]) -> StudyConfig | list[Broken]:
    """The configuration of ``values`` (which have no axes), or everything pydantic refuses."""
    try:
        return StudyConfig.model_validate_json(json.dumps(_with_kinds(values)))
    except ValidationError as error:
        return merge([explain(details, values) for details in error.errors()])


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


def mend(inquiry: Inquiry) -> bool:
    """Report and mend until every value on its own is valid; False if that cannot be reached."""
    values = inquiry.document.values
    before: list[Broken] = []
    while True:
        inquiry.problems.update(axis_problems(inquiry.document))
        for path, axis in all_axes(values).items():
            if not axis:
                _drop(inquiry, path)
        broken = _broken(values)
        if not broken:
            return True
        if broken == before:  # mending changed nothing that matters
            return False
        before = broken
        _report(inquiry, broken)
        outcomes = [_mend_one(inquiry, item) for item in broken]
        if not any(outcomes):
            return False


def _broken(values: dict[str, Any]) -> list[Broken]:
    """What is wrong with any value of any axis, each taken with the first values of the others."""
    found: list[Broken] = []
    for taken in one_at_a_time(find_axes(values)):
        outcome = configure(resolve(values, taken))
        if not isinstance(outcome, StudyConfig):
            found += [_on_axis(item, taken) for item in outcome]
    return list(dict.fromkeys(found))


def _on_axis(broken: Broken, taken: Mapping[FieldPath, int]) -> Broken:
    """The same, at the path of the study as it is written."""
    path = broken.path
    for axis, index in taken.items():
        if path[: len(axis)] == axis:
            path = (*axis, index, *path[len(axis) :])
    return Broken(path=path, rule=broken.rule, error=broken.error, suggestion=broken.suggestion)


def _report(inquiry: Inquiry, broken: Iterable[Broken]) -> None:
    """Note broken rules, unless mending caused them."""
    for item in broken:
        if item.error == "value_error":
            inquiry.report_sections([item], inquiry.document.values)
        elif not inquiry.is_mended(item.path):
            inquiry.report(item.path, item.rule)


def _mend_one(inquiry: Inquiry, broken: Broken) -> bool:
    """Mend a broken value; False if nothing changed."""
    if broken.error == "value_error":
        blamed = _blamed(broken, inquiry.document.values)
        return blamed is not None and _drop(inquiry, blamed)
    if broken.error == "missing":
        return _fill(inquiry, broken.path)
    if broken.suggestion is None:
        return _drop(inquiry, broken.path)
    return _apply_suggestion(inquiry, broken, broken.suggestion)


def _apply_suggestion(inquiry: Inquiry, broken: Broken, suggestion: str) -> bool:
    if inquiry.is_mended(broken.path):  # dropped just now, with another of its broken entries
        return False
    holder, last = section_at(inquiry.document.values, broken.path), broken.path[-1]
    if broken.error != "extra_forbidden":
        holder[last] = suggestion
        return True
    value = holder.pop(last)
    if suggestion not in holder:
        holder[suggestion] = value
        places, new = inquiry.document.places, (*broken.path[:-1], suggestion)
        for path, place in list(places.items()):
            if path[: len(new)] == broken.path:
                places[(*new, *path[len(new) :])] = place
    return True


def _fill(inquiry: Inquiry, path: FieldPath) -> bool:
    if path not in _PLACEHOLDERS:
        return False
    section_at(inquiry.document.values, path)[path[-1]] = _PLACEHOLDERS[path]
    inquiry.mended.add(path)
    return True


def _drop(inquiry: Inquiry, path: FieldPath) -> bool:
    """Leave the field at ``path`` (or that holds it) to its default; False if it is not there."""
    while isinstance(path[-1], int):
        path = path[:-1]
    try:
        del section_at(inquiry.document.values, path)[path[-1]]
    except KeyError:  # gone already, with another of its broken entries
        return False
    inquiry.mended.add(path)
    return True


def _blamed(broken: Broken, values: dict[str, Any]) -> FieldPath | None:
    """The first field that a rule within a section names and that is given."""
    section: Any = values
    for part in broken.path:
        section = section[part]
    if not isinstance(section, dict):
        return broken.path
    names = [word for word in re.findall(r"\w+", broken.rule) if word in section]
    return (*broken.path, names[0]) if names else None
