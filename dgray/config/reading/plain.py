"""Values of Python as those of a study file: numbers of NumPy and torch, paths, tuples."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from dgray.config.reading.diagnostics import Diagnostic, FieldPath, Place, dotted
from dgray.config.reading.document import MAX_DEPTH, MAX_VALUES
from dgray.errors import StudyError


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with values that a study file can hold.

    Args:
        fields: nested values; arrays and tensors become lists, numbers of NumPy and torch numbers,
            paths text.

    Raises:
        StudyError: with every field that has another value.
    """
    diagnostics: list[Diagnostic] = []
    values: dict[str, Any] = _plain(fields, (), diagnostics)
    if diagnostics:
        raise StudyError(diagnostics)
    return values


def _plain(value: Any, path: FieldPath, diagnostics: list[Diagnostic]) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "tolist") and math.prod(getattr(value, "shape", ())) <= MAX_VALUES:
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # of subclasses, such as enumerations, the value alone
        return str.__str__(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if len(path) <= MAX_DEPTH and isinstance(value, Mapping):
        return {name: _plain(item, (*path, name), diagnostics) for name, item in value.items()}
    if len(path) <= MAX_DEPTH and isinstance(value, list | tuple | range):
        return [_plain(item, (*path, index), diagnostics) for index, item in enumerate(value)]
    rule = (
        f"must be text, a number, true, false, null, a list or a mapping, of at most {MAX_DEPTH} "
        f"levels and {MAX_VALUES:,} values, but got an object of type {type(value).__name__}"
    )
    diagnostics.append(Diagnostic(Place.in_file(""), dotted(path), rule))
    return None
