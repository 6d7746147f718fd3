"""Trials one after the other in this process: for debugging and fast tests. Same rows as Ray."""

from __future__ import annotations

from dgray.engine.attempt import Prepare, RunTrial, attempt
from dgray.engine.events import EngineStarted, Observe, TrialFailed, TrialFinished, TrialStarted
from dgray.plan import Plan
from dgray.run_folder import RunFolder


def run(
    plan: Plan,
    folder: RunFolder,
    prepare: Prepare,
    observe: Observe,
    *,
    run_trial: RunTrial | None = None,
) -> None:
    """Complete every trial that can be completed; the others leave failed rows.

    ``prepare``: what makes the artifacts, here.
    """
    artifacts = prepare(None)
    observe(EngineStarted(engine="local", where="this process", num_workers=1))
    for trial in plan.trials:
        if not folder.missing_epochs(trial):
            continue
        observe(TrialStarted(trial_id=trial.id))
        failed = False
        for event in attempt(trial, artifacts, folder, run_trial):
            observe(event)
            failed = isinstance(event, TrialFailed)
        if not failed:
            observe(TrialFinished(trial_id=trial.id))
