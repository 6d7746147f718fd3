"""Record of a search: one small file for each event, from which the search is resumed.

    RUN/search/CELL/cell.json            label, metrics, their columns, constraints, domains
    RUN/search/CELL/000012-asked.json    number, values, trial
    RUN/search/CELL/000012-told.json     state, values, constraints, setting

Optuna's ``JournalStorage`` cannot be the record: an object store cannot append to a file, and a
dashboard that has the journal open can rename and delete studies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

from dgray.config.reading.domains import Domain
from dgray.config.search import OptunaSearch, validation_column
from dgray.errors import RecordError
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.record.seal import sealed_json

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

    If an event is missing, because it was damaged, those after it are set aside: the search
    suggests the same point again, and continues from there.

    Args:
        folder: folder of the run.
        cell_id: id of the cell that is searched.
        clock: returns seconds; for tests.
    """

    def __init__(self, folder: RunFolder, cell_id: str, clock: Callable[[], float]) -> None:
        self._folder, self._cell_id, self._clock = folder, cell_id, clock
        self.earlier = _continuous_events(folder, cell_id)
        self._num_events = len(self.earlier)
        seconds = max((event.seconds for event in self.earlier), default=0.0)
        self._started = clock() - seconds

    def reopen(self, first: int) -> None:
        """Delete the outcomes of points ``first`` and later, except those of invalid values.

        Nothing is deleted if a point was suggested after one of these outcomes, as in searches of
        older versions with one worker.
        """
        invalid = {e.number for e in self.earlier if isinstance(e, Asked) and e.trial is None}
        deleted = [
            event
            for event in self.earlier
            if isinstance(event, Told) and event.number >= first and event.number not in invalid
        ]
        if self.earlier[len(self.earlier) - len(deleted) :] != deleted:
            return
        for event in reversed(deleted):  # in reverse, so that an interruption leaves no gap
            name = f"{FOLDER}/{self._cell_id}/{event.number:06d}-told.json"
            self._folder.files.delete(name)
            self.earlier.remove(event)
        self._num_events = len(self.earlier)

    @property
    def elapsed(self) -> float:
        """Seconds of the search so far, over all sessions."""
        return round(self._clock() - self._started, 1)

    def add_suggestion(self, number: int, values: Mapping[str, Any], trial: str | None) -> None:
        """Record a suggested point; ``trial``: its id, or None if the values are invalid."""
        event = Asked(event=0, number=number, values=values, trial=trial, seconds=0.0)
        self._write("asked", event)

    def add_outcome(self, event: Told) -> None:
        """Record the outcome of a point."""
        self._write("told", event)

    def describe(self, label: str, search: OptunaSearch, domains: Iterable[Domain]) -> None:
        """Write the description of the search, for readers of the events."""
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
        self._folder.files.write_record(
            f"{FOLDER}/{self._cell_id}/{name}.json", partial(sealed_json, content)
        )


def read_events(folder: RunFolder, cell_id: str) -> list[Asked | Told]:
    """Return all intact events of a search in order; leave damaged ones out."""
    return list(_named_events(folder, cell_id).values())


def _continuous_events(folder: RunFolder, cell_id: str) -> list[Asked | Told]:
    """Return the events up to the first that is missing; set aside those after it."""
    events = _named_events(folder, cell_id)
    for number, (name, event) in enumerate(events.items()):
        if event.event > number:
            folder.files.set_aside(name)
            folder.files.left_out[name] = "it follows a missing event of the search"
    return [event for number, event in enumerate(events.values()) if event.event <= number]


def _named_events(folder: RunFolder, cell_id: str) -> dict[str, Asked | Told]:
    events: dict[str, Asked | Told] = {}
    for path in sorted((folder.path / FOLDER / cell_id).glob("[!.]*-*.json")):
        name = f"{FOLDER}/{cell_id}/{path.name}"
        try:
            events[name] = _event(folder.files.read_json(name) or {}, path.stem)
        except RecordError as error:
            folder.files.leave_out(name, error)
    return dict(sorted(events.items(), key=lambda item: item[1].event))


def _event(values: Mapping[str, Any], stem: str) -> Asked | Told:
    """Return an event from its record; records of older runs have no checksum."""
    number, _, kind = stem.partition("-")
    try:
        event = Asked(**values) if kind == "asked" else Told(**values)
    except TypeError as error:
        raise RecordError(f"damaged: it is no event of a search ({error})") from error
    if not (isinstance(event.event, int) and number == f"{event.number:06d}"):
        raise RecordError(f"misplaced: it is the event of point {event.number}")
    return event


def _about_domain(domain: Domain) -> dict[str, Any]:
    if domain.kind == "choice":
        return {"kind": domain.kind, "choices": list(domain.choices)}
    ends = {"low": domain.low, "high": domain.high}
    return {"kind": domain.kind, **ends, "is_log": domain.is_log}
