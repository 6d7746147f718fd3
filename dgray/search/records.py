"""Record of a search: one small file for each event, from which the search is resumed.

    RUN/search/CELL/cell.json            label, metrics, their columns, constraints, domains
    RUN/search/CELL/000012-asked.json    number, values, trial
    RUN/search/CELL/000012-told.json     state, values, constraints, setting

Optuna's ``JournalStorage`` cannot be the record: an object store cannot append to a file, and a
dashboard that has the journal open can rename and delete studies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from dgray.config.reading.domains import Domain
from dgray.config.search import OptunaSearch, validation_column
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder

FOLDER = "search"
State = Literal["COMPLETE", "PRUNED", "FAIL"]
# Copies cached results of a trial into the run folder (``dgray.engine.result_cache``).
Recall = Callable[[Trial], None]


def no_recall(trial: Trial) -> None:
    """Recall nothing: there is no cache."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Event: a point was suggested.

    Attributes:
        event: number of the event in the search.
        number: number of the point in the search.
        values: values of the searched fields, by dotted path.
        trial: id; None if the combination of values is invalid.
        seconds: duration of the search so far, over all sessions.
    """

    event: int
    number: int
    values: Mapping[str, Any]
    trial: str | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Told:
    """Event: the outcome of a point was told to Optuna.

    Attributes:
        event: number of the event in the search.
        number: number of the point in the search.
        state: Optuna's state of the trial.
        values: values of the metrics on the validation split; None unless COMPLETE.
        excess: metric minus bound of each constraint.
        setting: epoch, guidance weight and the other columns that identify the rows of ``values``.
        held_out: metrics on held-out data at that setting; never used by the search.
        intermediate: value of the first metric by epoch.
        reason: reason of a failure or an early stop.
        of: number of an earlier point with the same trial, whose outcome was copied.
        seconds: duration of the search so far, over all sessions.
    """

    event: int
    number: int
    state: State
    values: list[float] | None = None
    excess: Mapping[str, float] = field(default_factory=dict)
    setting: Mapping[str, Any] | None = None
    held_out: Mapping[str, float] = field(default_factory=dict)
    intermediate: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    of: int | None = None
    seconds: float = 0.0


class SearchRecord:
    """Events of one search in the run folder, numbered, with the duration of the search.

    Args:
        folder: folder of the run.
        cell_id: id of the cell that is searched.
        clock: returns seconds; for tests.
    """

    def __init__(self, folder: RunFolder, cell_id: str, clock: Callable[[], float]) -> None:
        self._folder, self._cell_id, self._clock = folder, cell_id, clock
        self.earlier = read_events(folder, cell_id)
        self._num_events = len(self.earlier)
        seconds = max((event.seconds for event in self.earlier), default=0.0)
        self._started = clock() - seconds

    @property
    def elapsed(self) -> float:
        """Seconds of the search so far, over all sessions."""
        return round(self._clock() - self._started, 1)

    def asked(self, number: int, values: Mapping[str, Any], trial: str | None) -> None:
        """Record a suggested point; ``trial``: its id, or None if the values are invalid."""
        event = Asked(event=0, number=number, values=values, trial=trial, seconds=0.0)
        self._write("asked", event)

    def told(self, event: Told) -> None:
        """Record the outcome of a point."""
        self._write("told", event)

    def describe(self, label: str, search: OptunaSearch, domains: Iterable[Domain]) -> None:
        """Write what a reader of the events needs to know about the search."""
        about = {
            "label": label,
            "metrics": search.metrics,
            "columns": {
                name: validation_column(name) for name in search.metrics
            },  # None: no split
            "constraints": search.constraints,
            "domains": {domain.name: _about_domain(domain) for domain in domains},
        }
        self._write_json("cell", about)

    def _write(self, kind: str, event: Asked | Told) -> None:
        event = replace(event, event=self._num_events, seconds=self.elapsed)
        self._write_json(f"{event.number:06d}-{kind}", asdict(event))
        self._num_events += 1

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=1) + "\n"
        self._folder.files.write(f"{FOLDER}/{self._cell_id}/{name}.json", text.encode())


def read_events(folder: RunFolder, cell_id: str) -> list[Asked | Told]:
    """Return all events of a search in order."""
    events: list[Asked | Told] = []
    for path in (folder.path / FOLDER / cell_id).glob("*-*.json"):
        content = json.loads(path.read_text("utf-8"))
        events.append(Asked(**content) if path.stem.endswith("asked") else Told(**content))
    return sorted(events, key=lambda event: event.event)


def _about_domain(domain: Domain) -> dict[str, Any]:
    if domain.kind == "choice":
        return {"kind": domain.kind, "choices": list(domain.choices)}
    ends = {"low": domain.low, "high": domain.high}
    return {"kind": domain.kind, **ends, "is_log": domain.is_log}
