"""Engine that runs trials one after the other in this process, with the same rows as Ray."""

from __future__ import annotations

import time

from dgray.engine.attempt import Prepare, Report, RunTrial, at_most_every, attempt
from dgray.engine.events import (
    EngineStarted,
    Observe,
    TrialFailed,
    TrialFinished,
    TrialProgress,
    TrialStarted,
)
from dgray.problem.failure import too_long
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import Schedule

_REPORT_SECONDS = 0.5  # between two reports about one training


def run(
    schedule: Schedule,
    folder: RunFolder,
    prepare: Prepare,
    observe: Observe,
    *,
    run_trial: RunTrial | None = None,
) -> None:
    """Complete every trial that can be completed; the others leave failed rows.

    Args:
        schedule: schedule of the trials.
        folder: for results.
        prepare: computes the shared artifacts.
        observe: called with every event.
        run_trial: None for ``dgray.trial.run.run_trial``.
    """
    artifacts = prepare(None)
    observe(EngineStarted(engine="local", where="this process", num_workers=1))
    while (trial := schedule.next()) is not None:
        observe(TrialStarted(trial_id=trial.id, label=trial.label))
        failure: str | None = None
        limit = trial.config.resources.trial_time_limit
        started = time.monotonic()
        report = at_most_every(_REPORT_SECONDS, _reporter(trial.id, observe))
        for event in attempt(trial, artifacts, folder, run_trial, report):
            observe(event)
            if isinstance(event, TrialFailed):
                failure = event.reason
            elif schedule.report_checkpoint(trial.id, event.epoch):
                break
            elif limit and time.monotonic() - started > limit and event.epoch < trial.epochs[-1]:
                failure = too_long(limit)
                folder.write_failure(trial, failure)
                observe(TrialFailed(trial_id=trial.id, reason=failure))
                break
        schedule.report_end(trial.id, failure)
        if failure is None:
            observe(TrialFinished(trial_id=trial.id))


def _reporter(trial_id: str, observe: Observe) -> Report:
    return lambda epochs: observe(TrialProgress(trial_id=trial_id, epochs=epochs))
