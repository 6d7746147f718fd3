"""Study file as a document: plain values, the place of each, and overrides (``--set a.b=value``).

A document is YAML 1.2 restricted to what JSON can hold: mappings with text keys, lists, text,
numbers, true, false and null. Its size is bounded, so that a damaged or hostile file is refused
within a second.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dgray.config.reading.diagnostics import Diagnostic, FieldPath, Place, dotted
from dgray.errors import StudyError
from dgray.files import read_bounded

MAX_BYTES = 1_000_000
MAX_DEPTH = 32  # mappings and lists within each other
MAX_VALUES = 20_000  # scalars, lists and mappings, with those that aliases repeat
MAX_INTEGER = 2**64 - 1

_TAG = "tag:yaml.org,2002:"
_SCALARS = {"null": "null", "bool": "true or false", "int": "an integer", "float": "a number"}
_TOO_MANY = (
    f"a study must have at most {MAX_VALUES:,} values, those that aliases repeat included, and "
    f"{MAX_DEPTH} levels, but this one has more"
)
_NULLS = ("", "~", "null", "Null", "NULL")
_NOT_TEXT = re.compile(r"[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # of YAML


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
    override: Place | None  # the place of all values if they are not read from a file
    places: dict[FieldPath, Place] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    num_values: int = 0
    constructor: Any = field(default_factory=lambda: YAML(typ="safe", pure=True).constructor)

    def place(self, node: Node) -> Place:
        mark = node.start_mark
        return self.override or Place.in_file(self.name, mark.line + 1, mark.column + 1)

    def report(self, node: Node, path: FieldPath, rule: str) -> None:
        self.diagnostics.append(Diagnostic(self.place(node), dotted(path), rule))

    def value(self, node: Node, path: FieldPath, ancestors: tuple[Node, ...] = ()) -> Any:
        self.num_values += 1
        if self.num_values > MAX_VALUES or len(ancestors) > MAX_DEPTH:
            self.report(node, path, _TOO_MANY)
            raise StudyError(self.diagnostics)
        if any(node is ancestor for ancestor in ancestors):
            self.report(node, path, "an alias must not contain itself")
            return None
        kind = str(node.tag).removeprefix(_TAG)
        if isinstance(node, MappingNode) and kind == "map":
            return self._mapping(node, path, (*ancestors, node))
        if isinstance(node, SequenceNode) and kind == "seq":
            return self._sequence(node, path, (*ancestors, node))
        if isinstance(node, ScalarNode) and kind == "str":
            return self._text(node, path)
        if isinstance(node, ScalarNode) and kind in _SCALARS:
            return self._scalar(node, path, kind)
        content = f" {node.value!r}" if isinstance(node, ScalarNode) else ""
        self.report(
            node,
            path,
            "must be text, a number, true, false, null, a list or a mapping, but got "
            f"{node.tag}{content}",
        )
        return None

    def _text(self, node: ScalarNode, path: FieldPath) -> str:
        if _NOT_TEXT.search(node.value):
            rule = f"text must be printable (also line breaks, tabs), but got {node.value!r}"
            self.report(node, path, rule)
        return str(node.value)

    def _scalar(self, node: ScalarNode, path: FieldPath, kind: str) -> Any:
        """Return null, a truth value or a number; a tag may claim any of them of any text."""
        try:
            value = self.constructor.construct_object(node)
        except (ValueError, LookupError):
            value = None
        is_null = node.value in _NULLS
        if (value is None) != (kind == "null" and is_null):
            self.report(node, path, f"must be {_SCALARS[kind]}, but got {node.value!r}")
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            self.report(node, path, f"a number must be <= 2^64, but got {node.value!r}")
            return 0
        return value

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
                name = repr(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
                self.report(key, path, f"field names are text, but got {name}")
                continue
            self._text(key, path)
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


class _Composer(Composer):
    """Composer of YAML nodes that stops at ``MAX_VALUES`` of them."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.num_nodes = 0
        self.warn_double_anchors = False

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        self.num_nodes += 1
        if self.num_nodes > MAX_VALUES:
            raise ComposerError(None, None, _TOO_MANY, self.parser.peek_event().start_mark)
        return super().compose_node(parent, index)


def _compose(text: str, name: str, override: Place | None) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.max_depth = _Composer, MAX_DEPTH
    place = override or Place.in_file(name)
    try:
        node: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark and not override:
            place = Place.in_file(name, mark.line + 1, mark.column + 1)
        raise StudyError([Diagnostic(place, "", f"not valid YAML: {error.problem}")]) from error
    except (YAMLError, ValueError) as error:  # ValueError: a version of 5,000 digits
        rule = f"not valid YAML: {str(error).splitlines()[0]}"
        raise StudyError([Diagnostic(place, "", rule)]) from error
    return node


def read_document(path: Path) -> Document:
    """Read a study file.

    Raises:
        StudyError: with every syntactic problem.
    """
    name = str(path)
    try:
        text = _read_text(path)
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        diagnostic = Diagnostic(Place.in_file(name), "", f"cannot be read: {reason}")
        raise StudyError([diagnostic]) from error
    return _parse(text, name, None)


def parse_document(text: str) -> Document:
    """Return the document of a text that is in no file: its values have no place.

    Raises:
        StudyError: with every syntactic problem.
    """
    return _parse(text, "", Place.in_file(""))


def _parse(text: str, name: str, place: Place | None) -> Document:
    node = _compose(text, name, place)
    reader = _Reader(name, place)
    values = {} if node is None else reader.value(node, ())
    if not isinstance(values, dict):
        rule = "a study is a mapping of fields to values"
        reader.diagnostics.append(Diagnostic(place or Place.in_file(name, 1, 1), "", rule))
    if reader.diagnostics:
        raise StudyError(reader.diagnostics)
    return Document(name, values, reader.places)


def _read_text(path: Path) -> str:
    content = read_bounded(path, MAX_BYTES)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it must be text in UTF-8; convert it ({error})") from error


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
    if len(path) > MAX_DEPTH:
        raise StudyError([Diagnostic(place, "", f"must have at most {MAX_DEPTH} levels")])
    if not separator or "" in path or _NOT_TEXT.search(name):
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
