"""One attempt at a trial: run it from where its rows end, store each checkpoint, tell of it.

Both engines run exactly this; they differ in where it runs and in what ``store`` is. Knows neither
torch nor Ray.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dgray.credentials import without_credentials
from dgray.engine.events import CheckpointDone, TrialFailed, checkpoint_done
from dgray.errors import StoreError
from dgray.plan.plan import Trial
from dgray.record.row import CheckpointResult, Row, column_names

if TYPE_CHECKING:
    from dgray.problem.shared import Workers

# What must be a number or missing; an error bar may be neither, where it cannot be known.
_VALUES = tuple(name for name in column_names("metric") if not name.endswith("_se"))


LESS_MEMORY = (
    "it ran out of memory: lower evaluate.batch_size, evaluate.num_points or fit.batch_size, or "
    "resources.max_concurrent_trials"
)


class Prepare(Protocol):
    """What makes the artifacts of the trials to be run, on the engine's workers."""

    def __call__(self, workers: Workers | None) -> Mapping[str, bytes]:
        """All artifacts, by key; None: in this process."""
        ...


class RunTrial(Protocol):
    """What ``dgray.trial.run.run_trial`` is to an engine."""

    def __call__(
        self,
        trial: Trial,
        artifacts: Mapping[str, bytes],
        *,
        resume: tuple[int, bytes] | None = None,
    ) -> Iterator[CheckpointResult]:
        """Yield a result at every checkpoint after the one of ``resume``."""
        ...


class Store(Protocol):
    """The part of ``RunFolder`` that a trial needs, wherever the folder is."""

    def load_state(self, trial_id: str, epochs: Sequence[int]) -> tuple[int, bytes] | None:
        """Newest state from which no row is missing."""
        ...

    def write_result(self, result: CheckpointResult) -> None:
        """Store one checkpoint; on return its rows are on disk."""
        ...

    def write_failure(self, trial: Trial, reason: str) -> None:
        """Put a failed row where each missing cell would be."""
        ...


def attempt(
    trial: Trial, artifacts: Mapping[str, bytes], store: Store, run_trial: RunTrial | None
) -> Iterator[CheckpointDone | TrialFailed]:
    """Yield an event for every stored checkpoint, and at most one failure, at the end.

    ``run_trial`` is ``dgray.trial.run.run_trial`` unless a test gives another.

    An exception of the trial becomes a failure, and so does a metric that is not a number.

    Raises:
        StoreError: the store cannot be read or written (a full disk).
    """
    if run_trial is None:
        from dgray.trial import run as trial_run  # torch: for the process that runs trials only

        run_trial = trial_run.run_trial
    with _storing():
        resume = store.load_state(trial.id, trial.epochs)
    for step in _steps(trial, artifacts, resume, run_trial):
        if isinstance(step, str):
            with _storing():
                store.write_failure(trial, step)
            yield TrialFailed(trial_id=trial.id, reason=step)
        else:
            with _storing():
                store.write_result(step)
            yield checkpoint_done(step)


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(str(error)) from error


def _steps(
    trial: Trial,
    artifacts: Mapping[str, bytes],
    resume: tuple[int, bytes] | None,
    run_trial: RunTrial,
) -> Iterator[CheckpointResult | str]:
    """The trial's results in order; then the reason, if it raised or broke its promise."""
    owed = [epoch for epoch in trial.epochs if resume is None or epoch > resume[0]]
    num_rows = trial.replicates * len(trial.settings)
    try:
        for result in run_trial(trial, artifacts, resume=resume):
            if owed[:1] != [result.epoch] or len(result.rows) != num_rows:
                due = f"checkpoint {owed[0]} with {num_rows} rows" if owed else "the end"
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
            owed.pop(0)
            yield result
    except Exception as error:  # whatever a trial raises is its result, the others go on
        yield describe(error)
        return
    if owed:
        yield f"the trial ended without its checkpoints {owed}"


def too_long(limit: float) -> str:
    """The reason of a trial that was ended for the time it took."""
    return (
        f"it took longer than resources.trial_time_limit, {limit:g} s; what it had stored is "
        "kept, and the same command goes on from there"
    )


def _not_numbers(rows: Sequence[Row]) -> list[str]:
    """Columns with a nan in these rows."""
    return [name for name in _VALUES if any(_has_nan(getattr(row, name)) for row in rows)]


def _has_nan(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)


def describe(error: BaseException) -> str:
    """The reason of a failure in one line: type, message and where it was raised."""
    text = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    text = without_credentials(text)  # rows, reports and logs are passed on
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        text = f"{text}; {LESS_MEMORY}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else text
