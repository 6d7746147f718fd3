"""One attempt at a trial: run the checkpoints that are missing and store each.

Both engines run this; they differ in where it runs and in what ``store`` is.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from dgray.engine.events import CheckpointDone, TrialFailed, checkpoint_done
from dgray.errors import StoreError
from dgray.plan.growth import training_key
from dgray.plan.plan import Trial
from dgray.problem.failure import Made, describe
from dgray.problem.part_process import outside_modules, run_apart
from dgray.record.row import CheckpointResult, Resume, Row, Save, no_state

if TYPE_CHECKING:
    from dgray.problem.shared import Workers
    from dgray.trial.shards import RunShards

SAVE_SECONDS = 60.0  # between two training states that are stored between checkpoints

Report = Callable[[float], None]  # called with the epochs of training so far


class Prepare(Protocol):
    """Computes the shared artifacts of all trials on the engine's workers."""

    def __call__(self, workers: Workers | None) -> Mapping[str, Made]:
        """Return all artifacts by key; ``workers`` None computes them in this process."""
        ...


class RunTrial(Protocol):
    """Interface of ``dgray.trial.run.run_trial``."""

    def __call__(
        self,
        trial: Trial,
        artifacts: Mapping[str, Made],
        *,
        resume: Resume = no_state,
    ) -> Iterator[CheckpointResult]:
        """Yield a result at every epoch of the trial; see ``dgray.trial.run.run_trial``."""
        ...


class CheckpointStore(Protocol):
    """The part of ``RunFolder`` that a trial needs; the folder may be on another machine."""

    def missing_epochs(self, trial: Trial) -> list[int]:
        """Return the checkpoints of the trial that are not complete."""
        ...

    def load_state(self, trial_id: str, epoch: int) -> tuple[int, bytes] | None:
        """Return epoch and content of the newest intact training state up to an epoch."""
        ...

    def write_result(self, result: CheckpointResult) -> None:
        """Store one checkpoint; its rows are on disk when this returns."""
        ...

    def write_failure(self, trial: Trial, reason: str) -> None:
        """Write a failed row for each row that is missing."""
        ...

    def read_artifact(self, key: str) -> bytes | None:
        """Return a stored artifact or state, or None if it does not exist or is damaged."""
        ...

    def write_artifact(self, key: str, content: bytes) -> None:
        """Store an artifact or state."""
        ...

    def delete_artifact(self, key: str) -> None:
        """Delete an artifact or state if it exists."""
        ...


class _Unfinished:
    """Training state of a trial between two checkpoints, stored in case its worker is lost.

    It is stored at most every ``SAVE_SECONDS``, and deleted at the next checkpoint. Its first line
    holds the epochs of the checkpoint before it and of itself.

    Args:
        store: for the state.
        trial: its owner.
    """

    def __init__(self, store: CheckpointStore, trial: Trial) -> None:
        self._store, self._key = store, f"{trial.id}-{training_key(trial)}.state"
        self._content = store.read_artifact(self._key) if trial.is_trained else None
        self._is_stored = self._content is not None
        self._checkpoint = 0
        self._last = time.monotonic()

    def or_checkpoint(
        self, epoch: int, stored: tuple[int, bytes] | None
    ) -> tuple[int, bytes] | None:
        """Return the state if it is between a checkpoint and an epoch, else the checkpoint."""
        self._checkpoint = 0 if stored is None else stored[0]
        if self._content is not None:
            line, _, state = self._content.partition(b"\n")
            checkpoint, own_epoch = map(int, line.split())
            if checkpoint == self._checkpoint and own_epoch < epoch:
                return own_epoch, state
        return stored

    def save(self, epoch: int, state: Callable[[], bytes]) -> None:
        """Store a state, unless one was stored less than ``SAVE_SECONDS`` ago."""
        if time.monotonic() - self._last >= SAVE_SECONDS:
            line = f"{self._checkpoint} {epoch}\n".encode()
            with _storing():
                self._store.write_artifact(self._key, line + state())
            self._is_stored, self._last = True, time.monotonic()

    def checkpoint_done(self, epoch: int) -> None:
        """Delete the state, as that of a later checkpoint is stored."""
        if self._is_stored:
            self._store.delete_artifact(self._key)
        self._checkpoint, self._content, self._is_stored = epoch, None, False
        self._last = time.monotonic()


def attempt(
    trial: Trial,
    artifacts: Mapping[str, Made],
    store: CheckpointStore,
    run_trial: RunTrial | None,
    report: Report | None = None,
    run_shards: RunShards | None = None,
) -> Iterator[CheckpointDone | TrialFailed]:
    """Yield an event for every stored checkpoint, and at most one failure, at the end.

    An exception in the trial is a failure, and so is a metric that is not a number.

    Args:
        trial: to run.
        artifacts: shared artifacts by key.
        store: for results and states.
        run_trial: None for ``dgray.trial.run.run_trial``; tests replace it.
        report: called with the epochs of training so far, unless code of other packages runs in a
            child process.
        run_shards: draws images; None: the process of the trial.

    Raises:
        StoreError: the store cannot be read or written (a full disk).
    """
    with _storing():
        due = replace(trial, epochs=tuple(store.missing_epochs(trial)))
    if not due.epochs:  # all were stored by an attempt whose worker was lost afterwards
        return
    with _storing():
        unfinished = _Unfinished(store, trial)

    def resume(epoch: int) -> tuple[int, bytes] | None:
        with _storing():
            return unfinished.or_checkpoint(epoch, store.load_state(trial.id, epoch))

    if run_trial is None:
        run_trial = functools.partial(
            _run_trial, report=report, run_shards=run_shards, save=unfinished.save
        )
    for step in _steps(due, artifacts, resume, run_trial):
        if isinstance(step, str):
            with _storing():
                store.write_failure(trial, step)
            yield TrialFailed(trial_id=trial.id, reason=step)
        else:
            with _storing():
                store.write_result(step)
                unfinished.checkpoint_done(step.epoch)
            yield checkpoint_done(step)


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(str(error)) from error


def _run_trial(
    trial: Trial,
    artifacts: Mapping[str, Made],
    *,
    resume: Resume,
    report: Report | None,
    run_shards: RunShards | None,
    save: Save,
) -> Iterator[CheckpointResult]:
    """Run a trial here, or in a child process if it calls code of other packages."""
    if run_shards is None and outside_modules(trial.config):
        limit = trial.config.resources.trial_time_limit
        states: dict[int, tuple[int, bytes]] = {}
        newest = -1
        for epoch in trial.epochs:  # the child has no store
            stored = resume(epoch)
            if stored is not None and stored[0] > newest:
                states[epoch], newest = stored, stored[0]
        arguments = {"trial": trial, "artifacts": artifacts, "resume": states.get}
        yield from run_apart(
            trial.config, "dgray.trial.run:run_trial", arguments, time_limit=limit
        )
        return
    from dgray.trial.run import run_trial  # torch, only where trials run

    yield from run_trial(
        trial, artifacts, resume=resume, report=report, run_shards=run_shards, save=save
    )


def _steps(
    trial: Trial,
    artifacts: Mapping[str, Made],
    resume: Resume,
    run_trial: RunTrial,
) -> Iterator[CheckpointResult | str]:
    """Yield the trial's results, then the reason if it raised or gave a wrong result."""
    due_epochs = list(trial.epochs)
    num_rows = trial.replicates * len(trial.settings)
    try:
        for result in run_trial(trial, artifacts, resume=resume):
            if due_epochs[:1] != [result.epoch] or len(result.rows) != num_rows:
                due = (
                    f"checkpoint {due_epochs[0]} with {num_rows} rows" if due_epochs else "the end"
                )
                yield (
                    f"{due} was due, but the trial gave checkpoint {result.epoch} with "
                    f"{len(result.rows)} rows"
                )
                return
            if names := _not_numbers(result.rows):
                yield (
                    f"every metric must be a number, infinity included, but at epoch "
                    f"{result.epoch} {', '.join(names)} is nan; lower fit.learning_rate"
                )
                return
            due_epochs.pop(0)
            yield result
    except StoreError:
        raise
    except (Exception, SystemExit) as error:  # of this trial; the others continue
        yield describe(error)
        return
    if due_epochs:
        yield f"the trial ended without its checkpoints {due_epochs}"


def at_most_every(seconds: float, report: Report) -> Report:
    """Return a function that forwards a report at most once in ``seconds``."""
    last = time.monotonic()

    def pass_on(epochs: float) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            report(epochs)

    return pass_on


def _not_numbers(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that are nan in some row; a standard error may be."""
    metrics = (item for row in rows for item in row.metrics.items())
    return list(
        dict.fromkeys(name for name, v in metrics if not name.endswith("_se") and _has_nan(v))
    )


def _has_nan(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)
