"""Checkpoints that a run should hold, recorded in its folder so that a report can name gaps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from dgray.errors import RecordError
from dgray.record.run_files import PLANNED_FILE, RunFiles
from dgray.record.seal import sealed_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dgray.plan.plan import Trial


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
        definition: digest of the study that was requested last; empty in older runs.
    """

    trials: tuple[PlannedTrial, ...]
    num_searches: int = 0
    num_points: int | None = None
    definition: str = ""

    def write(self, files: RunFiles) -> None:
        """Write ``planned.json``."""
        files.write_record(PLANNED_FILE, partial(sealed_json, asdict(self)))


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


def read_planned(files: RunFiles) -> Planned | None:
    """Return the content of ``planned.json``, or None if it does not exist.

    Raises:
        RecordError: it is damaged.
    """
    values = files.read_json(PLANNED_FILE)
    try:
        return None if values is None else _CONTENT.validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise RecordError(f"damaged: {problem['msg']} at {problem['loc']}") from error
