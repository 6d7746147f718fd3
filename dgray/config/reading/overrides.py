"""``--set a.b=value``: changes of a study from the command line, before anything is validated."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from dgray.config.reading.problem import FieldPath, Place, Problem, dotted
from dgray.config.reading.yaml_source import Document, read_value
from dgray.errors import StudyError


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """The document with every override applied in order. ``StudyError`` has all that fail."""
    problems: list[Problem] = []
    for text in overrides:
        try:
            document = _apply(document, text)
        except StudyError as error:
            problems.extend(error.problems)
    if problems:
        raise StudyError(problems)
    return document


def _apply(document: Document, text: str) -> Document:
    place = Place.in_override(text)
    name, separator, value_text = text.partition("=")
    path: FieldPath = tuple(part.strip() for part in name.split("."))
    if not separator or "" in path:
        raise StudyError(
            [Problem(place, "", "must be of the form field.name=value, like fit.epochs=100")]
        )
    value, added = read_value(value_text, path, place)
    values = copy.deepcopy(document.values)
    section: Any = values
    for depth, part in enumerate(path[:-1], start=1):
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            rule = f"has the value {section!r} and no fields, so '{dotted(path)}' cannot be set"
            raise StudyError([Problem(place, dotted(path[:depth]), rule)])
    section[path[-1]] = value
    kept = {at: where for at, where in document.places.items() if at[: len(path)] != path}
    return Document(document.name, values, kept | added)
