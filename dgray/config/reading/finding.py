"""An impossible combination of fields, as the rules between sections find it."""

from __future__ import annotations

from dataclasses import dataclass

from dgray.config.reading.problem import FieldPath


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The field to change, the others that take part, and the rule."""

    path: FieldPath
    reads: tuple[FieldPath, ...]
    rule: str
