"""Checkpoints that a run should hold, recorded in its folder so that a report can name gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dgray.plan.plan import Trial

PLANNED_FILE = "planned.json"


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """Trial of the plan.

    Attributes:
        id: id of the trial.
        label: objective and values on the axes.
        epochs: its checkpoints.
        rows: number of rows of each checkpoint.
    """

    id: str
    label: str
    epochs: tuple[int, ...]
    rows: int


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Content of ``planned.json``.

    Attributes:
        trials: trials of the plan, without those that a search requests.
        num_searches: number of searches.
        num_points: points of each search; None if a search may end earlier.
    """

    trials: tuple[PlannedTrial, ...]
    num_searches: int = 0
    num_points: int | None = None

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return _CONTENT.dump_json(self) + b"\n"


_CONTENT = TypeAdapter(Planned)


def planned_of(trials: Iterable[Trial], num_searches: int, num_points: int | None) -> Planned:
    """Return what a run of these trials should hold."""
    return Planned(
        trials=tuple(
            PlannedTrial(
                id=trial.id,
                label=trial.label,
                epochs=trial.epochs,
                rows=trial.replicates * len(trial.settings),
            )
            for trial in trials
        ),
        num_searches=num_searches,
        num_points=num_points,
    )


def parse_planned(content: bytes) -> Planned:
    """Return the content of ``planned.json``.

    Raises:
        ValueError: the content is damaged.
    """
    try:
        return _CONTENT.validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{problem['msg']} at {problem['loc']}") from error
