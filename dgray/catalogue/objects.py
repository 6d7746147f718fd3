"""Python objects as parts of a study, registered in this process under a name and a version.

An object becomes the import path ``dgray.catalogue.objects:NAME_VERSION``, which a study stores in
place of code. The version is given by the user, or is a hash of the object's source, so that
another version is another part and makes other trials. Imports neither torch nor Ray.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from dgray.errors import PartError

PREFIX = f"{__name__}:"
_DIGITS = 12  # of the hash of a source
_TEXT = r"[A-Za-z0-9_]{1,24}"
ROLES = ("data", "base", "discriminator", "objective", "correction", "metric", "sampler")
_OBJECTS: dict[str, Any] = {}


@dataclass(frozen=True)
class ObjectPart:
    """Python object as a part of a study, with an explicit identity.

    Attributes:
        value: the object.
        name: 1 to 24 letters, digits and underscores; the first is no digit.
        version: 1 to 24 letters, digits and underscores. Objects that differ in their version are
            different parts: a trial that uses one is not resumed with the other.
    """

    value: Any
    name: str
    version: str

    def __post_init__(self) -> None:
        for field, text in (("name", self.name), ("version", self.version)):
            if not re.fullmatch(_TEXT, str(text)) or (field == "name" and text[0].isdigit()):
                raise PartError(
                    f"the {field} of a part must be 1 to 24 letters, digits and _, but got "
                    f"{text!r}; give another with dgray.part(value, name=..., version=...)"
                )


def part(value: Any, *, name: str | None = None, version: str | int | None = None) -> ObjectPart:
    """Describe a Python object as a part of a study.

    Args:
        value: function, class, or any other object.
        name: name of the part; None: ``__name__`` of the object.
        version: version of the part; None: a hash of its source. The hash covers neither what the
            source calls nor values outside it, so give a version where those change.

    Raises:
        PartError: the object has no name, or its version cannot be a hash of its source.
    """
    own = getattr(value, "__name__", None)
    if name is None and (own is None or own == "<lambda>"):
        raise PartError(
            f"a part must have a name, but {_described(value)} has none; use "
            "dgray.part(value, name=..., version=...)"
        )
    text = name or str(own)
    return ObjectPart(value, text, str(version) if version is not None else _hash(value, text))


def _hash(value: Any, name: str) -> str:
    """Return a hash of the source of a function or class without values from outside."""
    fix = f"use dgray.part(value, name={name!r}, version=...)"
    if not inspect.isfunction(value) and not inspect.isclass(value):
        raise PartError(
            f"a part that is neither a function nor a class must have a version, but "
            f"{_described(value)} has none; {fix}"
        )
    if inspect.isfunction(value) and value.__closure__:
        names = ", ".join(value.__code__.co_freevars)
        raise PartError(
            f"a function that uses variables of another function must have a version, but {name} "
            f"uses {names}; {fix}"
        )
    try:
        source = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError) as error:
        raise PartError(
            f"a part without source must have a version, but that of {name} cannot be read "
            f"({error}); {fix}"
        ) from error
    if inspect.isfunction(value):
        source += _outside_source(value, name, fix)
    return hashlib.sha256(source.encode()).hexdigest()[:_DIGITS]


def _outside_source(function: FunctionType, name: str, fix: str) -> str:
    """Return a text of what two functions of one source can differ in; empty for most."""
    values = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    if any(not isinstance(value, str | int | float | None) for value in values):
        raise PartError(
            "a function with defaults other than text, numbers and None must have a version, but "
            f"{name} has such a default; {fix}"
        )
    text = repr(values) if values else ""
    if function.__name__ == "<lambda>":  # whose source is its line, with others on it
        code = function.__code__
        constants = [c for c in code.co_consts if isinstance(c, str | int | float | None)]
        text += f"{code.co_code!r} {code.co_names} {constants}"
    return text


def register(item: ObjectPart, role: str, value: Any) -> str:
    """Register a part in this process and return its import path.

    Args:
        item: identity of the part.
        role: section or field of the study, one of ``ROLES``.
        value: what the catalogue calls, the object or a factory of it.
    """
    key = f"{role}_{item.name}_{item.version}"
    _OBJECTS[key] = value
    return PREFIX + key


def install(objects: Mapping[str, Any]) -> None:
    """Register objects by key, those of another process."""
    _OBJECTS.update(objects)


def objects_of(values: object) -> dict[str, Any]:
    """Return the objects by key that nested values name and that are registered here."""
    keys = [path.removeprefix(PREFIX) for path in object_paths(values)]
    return {key: _OBJECTS[key] for key in keys if key in _OBJECTS}


def object_paths(values: object) -> Iterator[str]:
    """Yield the import paths of Python objects in nested values."""
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from object_paths(value)
    elif isinstance(values, str) and values.startswith(PREFIX):
        yield values


def absent_objects(values: object) -> list[str]:
    """Return a message about each object that nested values name and this process lacks."""
    paths = dict.fromkeys(object_paths(values))
    return [_absent(p) for p in paths if p.removeprefix(PREFIX) not in _OBJECTS]


def _absent(path: str) -> str:
    return (
        f"{path.removeprefix(PREFIX)} is a Python object that was passed to dgray.load_study; "
        "load the study in Python with the same object, that is, of the same name and version or "
        "source"
    )


def __getattr__(name: str) -> Any:
    if name in _OBJECTS:
        return _OBJECTS[name]
    if name.startswith(ROLES):
        raise PartError(_absent(name))
    raise AttributeError(name)


def _described(value: Any) -> str:
    return f"an object of type {type(value).__name__}"
