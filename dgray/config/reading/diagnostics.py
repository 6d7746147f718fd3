"""Problems of a study: place, field and rule, one line each."""

from __future__ import annotations

from dataclasses import dataclass

from dgray.errors import one_line

FieldPath = tuple[str | int, ...]


def dotted(path: FieldPath) -> str:
    """Return ``('fit', 'checkpoints', 1)`` as ``fit.checkpoints[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


@dataclass(frozen=True, order=True)
class Place:
    """Place of a value: line and column of a file, or a ``--set`` of the command line."""

    rank: int  # files before the command line
    line: int  # 1-based; 0: the file as a whole
    column: int
    name: str

    @classmethod
    def in_file(cls, name: str, line: int = 0, column: int = 0) -> Place:
        """Return a place in the study file."""
        return cls(0, line, column, name)

    @classmethod
    def in_override(cls, text: str) -> Place:
        """Return a place on the command line."""
        return cls(1, 0, 0, f"--set {text}")

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True, order=True)
class Diagnostic:
    """Broken rule: its place, the field, and the rule with value and fix."""

    place: Place
    field: str
    rule: str

    def __str__(self) -> str:
        parts = (str(self.place), self.field, self.rule)
        return ": ".join(one_line(part) for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Impossible combination of fields, found by a rule between sections.

    Attributes:
        path: the field to change.
        reads: the other fields of the combination.
        rule: the rule with the values and the fix.
    """

    path: FieldPath
    reads: tuple[FieldPath, ...]
    rule: str
