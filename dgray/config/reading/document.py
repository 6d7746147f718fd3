"""Study file as a document: plain values, the place of each, and overrides (``--set a.b=value``).

A document is YAML 1.2 restricted to what JSON can hold: mappings with text keys, lists, text,
numbers, true, false and null.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dgray.config.reading.diagnostics import Diagnostic, FieldPath, Place, dotted
from dgray.errors import StudyError

_SCALAR_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}


@dataclass(frozen=True)
class Document:
    """Plain values and the place of each."""

    name: str
    values: dict[str, Any]
    places: dict[FieldPath, Place]

    def place(self, path: FieldPath) -> Place:
        """Return the place of ``path``, or of the nearest value around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place.in_file(self.name)


@dataclass
class _Reader:
    """Converter of YAML nodes to values; collects places and diagnostics."""

    name: str
    override: Place | None  # the place of all values if they are read from the command line
    places: dict[FieldPath, Place] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def place(self, node: Node) -> Place:
        mark = node.start_mark
        return self.override or Place.in_file(self.name, mark.line + 1, mark.column + 1)

    def report(self, node: Node, path: FieldPath, rule: str) -> None:
        self.diagnostics.append(Diagnostic(self.place(node), dotted(path), rule))

    def value(self, node: Node, path: FieldPath, ancestors: tuple[Node, ...] = ()) -> Any:
        if any(node is ancestor for ancestor in ancestors):
            self.report(node, path, "an alias must not contain itself")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, path, (*ancestors, node))
        if isinstance(node, SequenceNode):
            return self._sequence(node, path, (*ancestors, node))
        if not isinstance(node, ScalarNode) or str(node.tag) not in _SCALAR_TAGS:
            self.report(
                node, path, f"must be text, a number, true, false or null, but got {node.value!r}"
            )
            return None
        return YAML(typ="safe", pure=True).constructor.construct_object(node)

    def _sequence(
        self, node: SequenceNode, path: FieldPath, ancestors: tuple[Node, ...]
    ) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.places[*path, index] = self.place(item)
            items.append(self.value(item, (*path, index), ancestors))
        return items

    def _mapping(
        self, node: MappingNode, path: FieldPath, ancestors: tuple[Node, ...]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, ScalarNode) or not str(key.tag).endswith((":str", ":merge")):
                self.report(key, path, f"field names are text, but got {key.value!r}")
                continue
            item_path = (*path, str(key.value))
            if key.value in values:
                self.report(
                    key,
                    item_path,
                    f"given twice, first at {self.places[item_path]}; remove one of them",
                )
                continue
            self.places[item_path] = self.place(key)
            values[str(key.value)] = self.value(item, item_path, ancestors)
        return values


def _compose(text: str, name: str, override: Place | None) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = override or (
            Place.in_file(name, mark.line + 1, mark.column + 1) if mark else Place.in_file(name)
        )
        raise StudyError([Diagnostic(place, "", f"not valid YAML: {error.problem}")]) from error
    except YAMLError as error:
        rule = f"not valid YAML: {str(error).splitlines()[0]}"
        raise StudyError([Diagnostic(override or Place.in_file(name), "", rule)]) from error
    return node


def read_document(path: Path) -> Document:
    """Read a study file.

    Raises:
        StudyError: with every syntactic problem.
    """
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        diagnostic = Diagnostic(Place.in_file(name), "", f"cannot be read: {reason}")
        raise StudyError([diagnostic]) from error
    node = _compose(text, name, None)
    reader = _Reader(name, None)
    values = {} if node is None else reader.value(node, ())
    if not isinstance(values, dict):
        reader.diagnostics.append(
            Diagnostic(Place.in_file(name, 1, 1), "", "a study is a mapping of fields to values")
        )
    if reader.diagnostics:
        raise StudyError(reader.diagnostics)
    return Document(name, values, reader.places)


def read_value(text: str, path: FieldPath, override: Place) -> tuple[Any, dict[FieldPath, Place]]:
    """Read the YAML value of an override of the field at ``path``, with its places."""
    node = _compose(text, str(override), override)
    reader = _Reader(str(override), override, places={path: override})
    value = None if node is None else reader.value(node, path)
    if reader.diagnostics:
        raise StudyError(reader.diagnostics)
    return value, reader.places


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """Return the document with every override applied in order.

    Raises:
        StudyError: with every override that fails.
    """
    diagnostics: list[Diagnostic] = []
    for text in overrides:
        try:
            document = _apply(document, text)
        except StudyError as error:
            diagnostics.extend(error.diagnostics)
    if diagnostics:
        raise StudyError(diagnostics)
    return document


def _apply(document: Document, text: str) -> Document:
    place = Place.in_override(text)
    name, separator, value_text = text.partition("=")
    path: FieldPath = tuple(part.strip() for part in name.split("."))
    if not separator or "" in path:
        raise StudyError(
            [Diagnostic(place, "", "must be of the form field.name=value, like fit.epochs=100")]
        )
    value, added = read_value(value_text, path, place)
    values = copy.deepcopy(document.values)
    section: Any = values
    for depth, part in enumerate(path[:-1], start=1):
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            rule = f"has the value {section!r} and no fields, so '{dotted(path)}' cannot be set"
            raise StudyError([Diagnostic(place, dotted(path[:depth]), rule)])
    section[path[-1]] = value
    kept = {key: place for key, place in document.places.items() if key[: len(path)] != path}
    return Document(document.name, values, kept | added)
