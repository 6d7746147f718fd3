"""YAML 1.2 with a place for every value. Knows ruamel.yaml; nothing of what a study is.

Accepted is what JSON can hold: mappings with text keys, lists, text, numbers, true, false, null.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dgray.config.reading.problem import FieldPath, Place, Problem, dotted
from dgray.errors import StudyError

_SCALAR_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}


@dataclass(frozen=True)
class Document:
    """Plain values, and the place of each of them."""

    name: str
    values: dict[str, Any]
    places: dict[FieldPath, Place]

    def place(self, path: FieldPath) -> Place:
        """Where ``path`` was written, or else the nearest thing around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place.in_file(self.name)


@dataclass
class _Reader:
    """Turns nodes into values, noting places and problems on the way."""

    name: str
    override: Place | None  # the place of everything, when read from the command line
    places: dict[FieldPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, node: Node) -> Place:
        mark = node.start_mark
        return self.override or Place.in_file(self.name, mark.line + 1, mark.column + 1)

    def complain(self, node: Node, path: FieldPath, rule: str) -> None:
        self.problems.append(Problem(self.place(node), dotted(path), rule))

    def value(self, node: Node, path: FieldPath, ancestors: tuple[Node, ...] = ()) -> Any:
        if any(node is ancestor for ancestor in ancestors):
            self.complain(node, path, "an alias must not contain itself")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, path, (*ancestors, node))
        if isinstance(node, SequenceNode):
            return self._sequence(node, path, (*ancestors, node))
        if not isinstance(node, ScalarNode) or str(node.tag) not in _SCALAR_TAGS:
            self.complain(
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
                self.complain(key, path, f"field names are text, but got {key.value!r}")
                continue
            here = (*path, str(key.value))
            if key.value in values:
                self.complain(
                    key, here, f"given twice, first at {self.places[here]}; remove one of them"
                )
                continue
            self.places[here] = self.place(key)
            values[str(key.value)] = self.value(item, here, ancestors)
        return values


def _compose(text: str, name: str, override: Place | None) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = override or (
            Place.in_file(name, mark.line + 1, mark.column + 1) if mark else Place.in_file(name)
        )
        raise StudyError([Problem(place, "", f"not valid YAML: {error.problem}")]) from error
    except YAMLError as error:
        rule = f"not valid YAML: {str(error).splitlines()[0]}"
        raise StudyError([Problem(override or Place.in_file(name), "", rule)]) from error
    return node


def read_document(path: Path) -> Document:
    """Read a study file. Raises ``StudyError`` with every syntactic problem."""
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        problem = Problem(Place.in_file(name), "", f"cannot be read: {reason}")
        raise StudyError([problem]) from error
    node = _compose(text, name, None)
    reader = _Reader(name, None)
    values = {} if node is None else reader.value(node, ())
    if not isinstance(values, dict):
        reader.problems.append(
            Problem(Place.in_file(name, 1, 1), "", "a study is a mapping of fields to values")
        )
    if reader.problems:
        raise StudyError(reader.problems)
    return Document(name, values, reader.places)


def read_value(text: str, path: FieldPath, override: Place) -> tuple[Any, dict[FieldPath, Place]]:
    """Read one YAML value given on the command line for the field at ``path``."""
    node = _compose(text, str(override), override)
    reader = _Reader(str(override), override, places={path: override})
    value = None if node is None else reader.value(node, path)
    if reader.problems:
        raise StudyError(reader.problems)
    return value, reader.places
