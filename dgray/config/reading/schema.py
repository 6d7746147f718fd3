"""Fields of the models of the study file: their types, names, and whether they can be axes."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dgray.config.parts import CUSTOM, Part
from dgray.config.reading.diagnostics import FieldPath, dotted
from dgray.config.study import StudyConfig

# Fields that do not change what is computed: different values would give the same trials.
NEVER_AXES = ("name", "description", "question", "budget", "search", "resources")


def is_never_axis(path: FieldPath) -> bool:
    """Return True if a field at this path is never an axis, as fields of entries of a list."""
    return path[0] in NEVER_AXES or any(isinstance(part, int) for part in path)


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type, flattened, without annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(m for part in get_args(annotation) for m in members(part))
    return (annotation,)


def models_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the models among the alternatives of a type."""
    classes = (m for m in members(annotation) if isinstance(m, type))
    return tuple(m for m in classes if issubclass(m, BaseModel))


def sections_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the models that are sections of fields; a ``Part`` is a single value."""
    return tuple(model for model in models_of(annotation) if not issubclass(model, Part))


def entries_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the models of the entries of the lists among the alternatives of a type."""
    lists = (get_args(m) for m in members(annotation) if get_origin(m) is tuple)
    return tuple(m for types_of_list in lists for t in types_of_list for m in models_of(t))


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the texts among the literals of a type."""
    literals = (get_args(m) for m in members(annotation) if get_origin(m) is Literal)
    return tuple(value for values in literals for value in values if isinstance(value, str))


def kind_of(model: type[BaseModel]) -> str | None:
    """Return the ``kind`` that selects a model, if it has one."""
    field = model.model_fields.get("kind")
    return next(iter(choices(field.annotation)), None) if field is not None else None


def is_tag(path: FieldPath, annotation: Any) -> bool:
    """Return True if a field selects the model of its section, so that it cannot be an axis."""
    return path[-1] == "kind" and not models_of(annotation)


def selected(annotation: Any, value: object) -> type[BaseModel] | None:
    """Return the model that ``value`` is meant for, or None if it is unclear."""
    candidates = models_of(annotation)
    if not isinstance(value, dict) or not candidates:
        return None
    if len(candidates) == 1:
        return candidates[0]
    kind = value.get("kind", CUSTOM if "factory" in value else _default_kind(candidates))
    return next((m for m in candidates if kind_of(m) == kind), None)


def _default_kind(candidates: Iterable[type[BaseModel]]) -> str | None:
    """Return the kind of a section that states none, if it is optional."""
    fields = (model.model_fields.get("kind") for model in candidates)
    return next((f.default for f in fields if f is not None and not f.is_required()), None)


def list_depth(annotation: Any) -> int:
    """Return the depth of lists in a value that is not an axis: 0 scalar, 1 vector, 2 matrix."""
    depth = 0
    for member in members(annotation):
        if get_origin(member) is tuple:
            inner = (part for part in get_args(member) if part is not Ellipsis)
            depth = max(depth, 1 + max(list_depth(part) for part in inner))
    return depth


def value_depth(value: object) -> int:
    """Return the depth of the lists in a value."""
    if not isinstance(value, list):
        return 0
    return 1 + max((value_depth(item) for item in value), default=0)


def takes_axis(annotation: Any) -> bool:
    """Return True if a field can hold a single value: a list of them is a training axis."""
    return any(
        get_origin(m) is not tuple and m is not type(None) for m in members(annotation)
    ) and not sections_of(annotation)


def walk(
    values: dict[str, Any], model: type[BaseModel] = StudyConfig, prefix: FieldPath = ()
) -> Iterator[tuple[FieldPath, FieldInfo, Any]]:
    """Yield path, field and value of every valid field, in the order of the models."""
    for name, field in model.model_fields.items():
        if name not in values:
            continue
        value = values[name]
        yield (*prefix, name), field, value
        section = selected(field.annotation, value)
        if section is not None and not issubclass(section, Part):
            yield from walk(value, section, (*prefix, name))


def fields_at(values: dict[str, Any], path: FieldPath) -> tuple[str, ...]:
    """Return the names of the fields of the section at ``path``, or of all its kinds."""
    candidates: tuple[type[BaseModel], ...] = (StudyConfig,)
    fields: list[FieldInfo] = []
    current: Any = values
    for part in path:
        if isinstance(part, int):
            candidates = tuple(m for field in fields for m in entries_of(field.annotation))
            current = current[part] if isinstance(current, list) else None
            continue
        fields = [m.model_fields[part] for m in candidates if part in m.model_fields]
        current = current.get(part) if isinstance(current, dict) else None
        chosen = [selected(field.annotation, current) for field in fields]
        candidates = tuple(m for m in chosen if m is not None) or tuple(
            m for field in fields for m in models_of(field.annotation)
        )
    return tuple(dict.fromkeys(name for m in candidates for name in m.model_fields))


def kinds_at(path: FieldPath) -> tuple[str, ...]:
    """Return the possible values of the ``kind`` at ``path``."""
    candidates: tuple[type[BaseModel], ...] = (StudyConfig,)
    for part in path[:-1]:
        candidates = tuple(
            m
            for model in candidates
            if part in model.model_fields
            for m in models_of(model.model_fields[part].annotation)
        )
    return tuple(kind for m in candidates if (kind := kind_of(m)) is not None)


def all_fields(model: type[BaseModel] = StudyConfig, prefix: FieldPath = ()) -> Iterator[str]:
    """Yield the dotted names of all fields."""
    for name, field in model.model_fields.items():
        yield dotted((*prefix, name))
        sections = sections_of(field.annotation)
        for section in sections:
            yield from all_fields(section, (*prefix, name))
        for entry in entries_of(field.annotation) if sections else ():
            yield from all_fields(entry, (*prefix, name, 0))


def nearest(word: object, names: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the name that ``word`` most likely stands for, if there is one."""
    if not isinstance(word, str):
        return None
    by_case = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(word.lower(), by_case, n=1, cutoff=cutoff)
    return by_case[matches[0]] if matches else None
