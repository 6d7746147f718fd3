"""Conversion between Ray Tune's callbacks and results and the events of a study."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from dgray.engine.events import (
    BestSetting,
    CheckpointDone,
    Observe,
    TrialFailed,
    TrialFinished,
    TrialProgress,
    TrialStarted,
    WorkerLost,
)
from dgray.engine.lost_worker import loss_reason
from dgray.errors import StoreError
from dgray.plan.plan import Trial
from dgray.problem.failure import too_long
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import Schedule

_FAILURE = "failure"
_STORE_FAILURE = "store_failure"
_EPOCHS = "trained_epochs"
_ACTORS_LOST = "actors_lost"


class InterruptedInTune(Exception):
    """Ends ``Tuner.fit`` so that it stops its trials, which a KeyboardInterrupt would not."""


def to_metrics(event: CheckpointDone | TrialFailed, actors_lost: int = 0) -> dict[str, Any]:
    """Return an event as a result for Tune: scalars only, since Tune keeps every result in memory.

    Args:
        event: event of the trial.
        actors_lost: sampling actors that the trial has lost in this attempt.
    """
    lost = {_ACTORS_LOST: actors_lost}
    if isinstance(event, TrialFailed):
        return {_FAILURE: event.reason, **lost}
    best = dataclasses.asdict(event.best) if event.best else {}
    named = {f"best_{name}": value for name, value in best.items()}
    return {"epoch": event.epoch, "rows_done": event.rows_done, **named, **lost}


def store_failed(error: StoreError) -> dict[str, Any]:
    """Return the result for Tune of a trial whose results cannot be stored."""
    return {_STORE_FAILURE: str(error)}


def progress_metrics(epochs: float) -> dict[str, Any]:
    """Return the result for Tune of a trial in the middle of its training."""
    return {_EPOCHS: epochs}


def from_metrics(trial_id: str, metrics: Mapping[str, Any]) -> CheckpointDone | TrialFailed:
    """Return the event from which ``to_metrics`` made a result."""
    if _FAILURE in metrics:
        return TrialFailed(trial_id=trial_id, reason=metrics[_FAILURE])
    names = [f.name for f in dataclasses.fields(BestSetting)]
    best = {name: metrics[f"best_{name}"] for name in names if f"best_{name}" in metrics}
    return CheckpointDone(
        trial_id=trial_id,
        epoch=metrics["epoch"],
        rows_done=metrics["rows_done"],
        best=BestSetting(**best) if best else None,
    )


class TuneCallback(tune.Callback):
    """Reports Tune's trials as events, and ends ``Tuner.fit`` once ``interrupted`` is set."""

    def __init__(
        self,
        schedule: Schedule,
        trials: Mapping[str, Trial],
        folder: RunFolder,
        observe: Observe,
        interrupted: threading.Event,
        repeat: Callable[[Trial], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the callback.

        Args:
            schedule: is informed of the end of each trial.
            trials: all trials suggested to Tune by id; filled by the searcher.
            folder: for the failed rows of trials whose workers were lost too often.
            observe: called with every event.
            interrupted: set when the study should stop.
            repeat: has a trial suggested to Tune once more.
            clock: seconds; tests replace it.
        """
        self._clock = clock
        self._running: dict[str, tuple[Any, float]] = {}
        self._too_long: set[str] = set()
        self._actors_lost: dict[str, int] = {}
        self._losses: Counter[str] = Counter()
        self._recovering: set[str] = set()
        self._store_failure: str | None = None
        self._schedule = schedule
        self._trials = trials
        self._folder = folder
        self._observe = observe
        self._interrupted = interrupted
        self._repeat = repeat
        self._failed: dict[str, str] = {}
        self._lost: list[Any] = []  # trials without workers whose failure is not written yet

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles callbacks for a restore that dgray never does."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Stop if an interrupt was requested; no event of Tune is in progress."""
        self._fail_lost_trials()
        self.check_store()
        if self._interrupted.is_set():
            raise InterruptedInTune
        self._kill_overdue_trials()

    def check_store(self) -> None:
        """Raise StoreError if a worker could not store its results."""
        if self._store_failure is not None:
            raise StoreError(self._store_failure)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report that a worker has started or resumed a trial."""
        trial_id = trial.config["trial"]
        self._running[trial_id] = trial, self._clock()
        self._recovering.discard(trial_id)
        self._actors_lost[trial_id] = 0
        self._observe(TrialStarted(trial_id=trial_id, label=self._trials[trial_id].label))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Report a checkpoint or a failure; note an error of the store."""
        trial_id = trial.config["trial"]
        if _STORE_FAILURE in result:
            self._store_failure = result[_STORE_FAILURE]
            return
        if _EPOCHS in result:
            self._observe(TrialProgress(trial_id=trial_id, epochs=result[_EPOCHS]))
            return
        lost = result[_ACTORS_LOST] - self._actors_lost[trial_id]
        if lost > 0:
            self._actors_lost[trial_id] += lost
            self._observe(WorkerLost(task=f"{trial_id}, sampling", times=lost))
        event = from_metrics(trial_id, result)
        if isinstance(event, TrialFailed):
            self._failed[event.trial_id] = event.reason
        self._observe(event)

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        """Report that a trial has finished or was stopped early."""
        trial_id = trial.config["trial"]
        self._running.pop(trial_id, None)
        if self._store_failure is not None:
            return
        failure = self._failed.get(trial_id)
        self._schedule.report_end(trial_id, failure)
        if failure is None:
            self._observe(TrialFinished(trial_id=trial_id))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report a lost worker; another one resumes the trial after its last checkpoint."""
        trial_id = trial.config["trial"]
        self._running.pop(trial_id, None)
        self._recovering.add(trial_id)
        self._losses[trial_id] += 1
        self._observe(WorkerLost(task=trial_id))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note a trial that has lost more workers than it may; repeat one that has not.

        If a reused worker dies before it takes up its next trial, Tune 2.60 counts the loss twice
        and gives the trial up whatever ``max_failures`` is.
        """
        trial_id = trial.config["trial"]
        was_running = self._running.pop(trial_id, None) is not None
        is_counted = trial_id in self._recovering
        if not (was_running or is_counted):
            self._losses[trial_id] += 1
        if not was_running and self._losses[trial_id] <= trial.max_failures:
            if not is_counted:
                self._observe(WorkerLost(task=trial_id))
            self._repeat(self._trials[trial_id])
            return
        self._lost.append(trial)  # Tune stores the reason only after this call

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Write the failures that are left."""
        self._fail_lost_trials(wait_for_reason=False)

    def _fail_lost_trials(self, *, wait_for_reason: bool = True) -> None:
        """Write and report the failures whose reason Tune has stored, or all."""
        ready = [t for t in self._lost if not wait_for_reason or _cause(t) is not None]
        self._lost = [trial for trial in self._lost if trial not in ready]
        for trial in ready:
            trial_id = trial.config["trial"]
            reason = self._reason(trial)
            self._folder.write_failure(self._trials[trial_id], reason)
            self._schedule.report_end(trial_id, reason)
            self._observe(TrialFailed(trial_id=trial_id, reason=reason))

    def _reason(self, trial: Any) -> str:
        trial_id = trial.config["trial"]
        if trial_id in self._too_long:
            limit = self._trials[trial_id].config.resources.trial_time_limit
            assert limit is not None  # it has been exceeded
            return too_long(limit)
        times = trial.num_failures
        often = "" if times < 2 else f" {times} times; the last reason"
        cause = _cause(trial) or "Ray gives no reason"
        return f"its worker was lost{often}: {cause}"

    def _kill_overdue_trials(self) -> None:
        """Kill the actors of trials past their time limit; a hung trial cannot stop itself."""
        for trial_id, (trial, started) in list(self._running.items()):
            limit = self._trials[trial_id].config.resources.trial_time_limit
            actor = trial.temporary_state.ray_actor
            if limit is None or actor is None or self._clock() - started <= limit:
                continue
            del self._running[trial_id]
            self._too_long.add(trial_id)
            trial.max_failures = 0  # no retry in this session
            ray.kill(actor)


def _cause(trial: Any) -> str | None:
    """Return why a trial's worker was lost, in one line; None if Tune has not stored it."""
    path = trial.error_file  # one entry a failure, of a dozen lines
    if path is None or not Path(path).exists():
        return None
    text = " ".join(Path(path).read_text("utf-8").rpartition("Failure # ")[2].split())
    text = text.partition(") ")[2]  # after "2 (occurred at ...)"
    return loss_reason(text)
