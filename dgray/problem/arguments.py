"""Keyword arguments of the factories of parts, from their sections of the study file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgray.config.model import Model


def option_arguments(section: Model, options: Sequence[str]) -> dict[str, Any]:
    """Return some fields of a section as arguments; a subsection gives its own fields."""
    arguments: dict[str, Any] = {}
    for name in options:
        value = getattr(section, name)
        arguments |= value.model_dump() if isinstance(value, Model) else {name: value}
    return arguments


def section_arguments(section: Model, common: type[Model]) -> dict[str, Any]:
    """Return the arguments of the factory of a section.

    They are the fields that the section has in addition to those of ``common``, which describe
    how the part is used; ``arguments`` of a user's part are given one by one.
    """
    values = section.model_dump(exclude={*common.model_fields, "factory"})
    arguments: dict[str, Any] = values.pop("arguments", {})
    return values | arguments
