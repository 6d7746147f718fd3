"""What is wrong with a study: one line a problem, all of them at once. Knows no YAML, pydantic."""

from __future__ import annotations

from dataclasses import dataclass

FieldPath = tuple[str | int, ...]


def dotted(path: FieldPath) -> str:
    """``('fit', 'checkpoints', 1)`` as ``fit.checkpoints[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: a line and column of a file, or a ``--set`` of the command."""

    rank: int  # files before the command line
    line: int  # 1-based; 0: the file as a whole
    column: int
    name: str

    @classmethod
    def in_file(cls, name: str, line: int = 0, column: int = 0) -> Place:
        """A place in the study file."""
        return cls(0, line, column, name)

    @classmethod
    def in_override(cls, text: str) -> Place:
        """A place on the command line."""
        return cls(1, 0, 0, f"--set {text}")

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True, order=True)
class Problem:
    """One broken rule: where, which field, and the rule with the value and the fix."""

    place: Place
    field: str
    rule: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.field, self.rule) if part)
