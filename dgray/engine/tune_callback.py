"""From Ray Tune's callbacks to events, and from events to the small results that Tune carries.

Knows Ray Tune's callback interface.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from dgray.credentials import without_credentials
from dgray.engine.attempt import LESS_MEMORY, too_long
from dgray.engine.events import (
    Best,
    CheckpointDone,
    Observe,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    WorkerLost,
)
from dgray.errors import StoreError
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import Schedule

_FAILURE = "failure"
_STORE_FAILURE = "store_failure"
_ACTORS_LOST = "actors_lost"
_LOW_MEMORY = "killed due to the node running low on memory"  # Ray's words
_LONGEST = 200


class InterruptedInTune(Exception):
    """Ends ``Tuner.fit`` so that it stops its trials; a KeyboardInterrupt would leave them."""


def to_metrics(event: CheckpointDone | TrialFailed, actors_lost: int = 0) -> dict[str, Any]:
    """What is reported to Tune: scalars only, since every result stays in the driver's memory.

    ``actors_lost``: of the trial's sampling actors, since this attempt at it began.
    """
    lost = {_ACTORS_LOST: actors_lost}
    if isinstance(event, TrialFailed):
        return {_FAILURE: event.reason, **lost}
    best = dataclasses.asdict(event.best) if event.best else {}
    named = {f"best_{name}": value for name, value in best.items()}
    return {"epoch": event.epoch, "rows_done": event.rows_done, **named, **lost}


def store_failed(error: StoreError) -> dict[str, Any]:
    """What is reported to Tune of a trial whose results cannot be kept."""
    return {_STORE_FAILURE: str(error)}


def from_metrics(trial_id: str, metrics: Mapping[str, Any]) -> CheckpointDone | TrialFailed:
    """The event that ``to_metrics`` made these from."""
    if _FAILURE in metrics:
        return TrialFailed(trial_id=trial_id, reason=metrics[_FAILURE])
    names = [f.name for f in dataclasses.fields(Best)]
    best = {name: metrics[f"best_{name}"] for name in names if f"best_{name}" in metrics}
    return CheckpointDone(
        trial_id=trial_id,
        epoch=metrics["epoch"],
        rows_done=metrics["rows_done"],
        best=Best(**best) if best else None,
    )


class Narrator(tune.Callback):
    """Tells ``observe`` what Tune's trials do, and ends the fit once ``interrupted`` is set."""

    def __init__(
        self,
        schedule: Schedule,
        trials: Mapping[str, Trial],
        folder: RunFolder,
        observe: Observe,
        interrupted: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``trials``: those given to Tune, by id, while it runs; of a trial whose workers died for
        good the failed rows are written here, and ``schedule`` learns how each ended.
        """
        self._clock = clock
        self._running: dict[str, tuple[Any, float]] = {}
        self._too_long: set[str] = set()
        self._actors_lost: dict[str, int] = {}
        self._store_failure: str | None = None
        self._schedule = schedule
        self._trials = trials
        self._folder = folder
        self._observe = observe
        self._interrupted = interrupted
        self._failed: dict[str, str] = {}
        self._lost: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves its settings to restore a run from, which dgray never does."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Between two events of Tune: the safe point to stop at."""
        self._tell_lost()
        self.check_store()
        if self._interrupted.is_set():
            raise InterruptedInTune
        self._end_what_takes_too_long()

    def check_store(self) -> None:
        """Raise StoreError if a worker said that its results could not be kept."""
        if self._store_failure is not None:
            raise StoreError(self._store_failure)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker took a trial, perhaps again."""
        trial_id = trial.config["trial"]
        self._running[trial_id] = trial, self._clock()
        self._actors_lost[trial_id] = 0
        self._observe(TrialStarted(trial_id=trial_id, label=self._trials[trial_id].label))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A checkpoint is on disk, or the trial raised, or the disk is full."""
        trial_id = trial.config["trial"]
        if _STORE_FAILURE in result:
            self._store_failure = result[_STORE_FAILURE]
            return
        lost = result[_ACTORS_LOST] - self._actors_lost[trial_id]
        if lost > 0:
            self._actors_lost[trial_id] += lost
            self._observe(WorkerLost(what=f"{trial_id}, sampling", times=lost))
        event = from_metrics(trial_id, result)
        if isinstance(event, TrialFailed):
            self._failed[event.trial_id] = event.reason
        self._observe(event)

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        """The trial's function returned, or it was stopped early."""
        trial_id = trial.config["trial"]
        self._running.pop(trial_id, None)
        if self._store_failure is not None:
            return
        failure = self._failed.get(trial_id)
        self._schedule.finished(trial_id, failure)
        if failure is None:
            self._observe(TrialFinished(trial_id=trial_id))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker died, and another will take the trial up where its rows end."""
        trial_id = trial.config["trial"]
        self._running.pop(trial_id, None)
        self._observe(WorkerLost(what=trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial's workers died more often than it may be tried again."""
        self._running.pop(trial.config["trial"], None)
        self._lost.append(trial)  # Tune learns why only after this call

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """No trial is left."""
        self._tell_lost(at_once=True)

    def _tell_lost(self, *, at_once: bool = False) -> None:
        """Those whose reason is known by now, or all."""
        known = [t for t in self._lost if at_once or _cause(t) is not None]
        self._lost = [trial for trial in self._lost if trial not in known]
        for trial in known:
            trial_id = trial.config["trial"]
            reason = self._why(trial)
            self._folder.write_failure(self._trials[trial_id], reason)
            self._schedule.finished(trial_id, reason)
            self._observe(TrialFailed(trial_id=trial_id, reason=reason))

    def _why(self, trial: Any) -> str:
        trial_id = trial.config["trial"]
        if trial_id in self._too_long:
            limit = self._trials[trial_id].config.resources.trial_time_limit
            assert limit is not None  # by what ended it
            return too_long(limit)
        times = trial.num_failures
        often = "" if times < 2 else f" {times} times, at last"
        cause = without_credentials(_cause(trial) or "Ray does not say why")
        return f"its worker was lost{often} ({cause})"

    def _end_what_takes_too_long(self) -> None:
        """Its worker is killed: a trial that hangs would not hear of anything milder."""
        for trial_id, (trial, started) in list(self._running.items()):
            limit = self._trials[trial_id].config.resources.trial_time_limit
            actor = trial.temporary_state.ray_actor
            if limit is None or actor is None or self._clock() - started <= limit:
                continue
            del self._running[trial_id]
            self._too_long.add(trial_id)
            trial.max_failures = 0  # Tune is not to try again: the next session is
            ray.kill(actor)


def _cause(trial: Any) -> str | None:
    """Why its worker was lost, in one line; None: not known, or not yet."""
    path = trial.error_file  # one entry a failure; Ray's own text runs over a dozen lines
    if path is None or not Path(path).exists():
        return None
    text = " ".join(Path(path).read_text("utf-8").rpartition("Failure # ")[2].split())
    text = text.partition(") ")[2]  # after "2 (occurred at ...)"
    error = trial.get_pickled_error()  # some kinds are not pickled, and this is an earlier one
    kind = f"{type(error).__name__}: " if " ".join(str(error).split()) == text else ""
    _, marker, detail = text.partition("Worker exit detail: ")
    if marker:
        return kind + detail.partition(" Some common causes")[0]
    if _LOW_MEMORY in text:
        return kind + text[text.index(_LOW_MEMORY) :][:_LONGEST] + "; " + LESS_MEMORY
    return kind + text[-_LONGEST:]
