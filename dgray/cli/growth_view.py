"""Lines that state what is new in a run whose study has changed, and what is reused."""

from __future__ import annotations

from collections.abc import Iterator

from dgray.data.summary import counted
from dgray.plan.plan import Plan, Trial
from dgray.record.open_run import OpenRun
from dgray.record.run_files import EARLIER


def growth_lines(plan: Plan, run: OpenRun) -> Iterator[str]:
    """Yield the changes, and what is reused, evaluated again, trained and left out of the report.

    Args:
        plan: plan of the study.
        run: its run, after ``Reuse`` has moved reusable records into place.
    """
    changes, folder = run.history[-1].changes, run.folder
    if not changes:
        yield "the run has no rows yet, so its study is replaced"
    else:
        yield f"the study of this run has changed since {run.history[-2].time}:"
        yield from (f"  {change}" for change in changes)
    done, evaluated, trained = _Count(), _Count(), _Count()
    for trial in plan.trials:
        missing, stored = folder.missing_epochs(trial), folder.trained_epochs(trial.id)
        for epoch in trial.epochs:
            if epoch not in missing:
                done.add(trial)
            elif not trial.is_trained or epoch in stored:
                evaluated.add(trial)
            else:
                trained.add(trial)
    yield f"reused as they are: {done}"
    yield f"evaluated without training, all settings of a checkpoint at once: {evaluated}"
    yield f"trained, from stored states where there are any: {trained}"
    if plan.study.domains:
        yield "searches: search points that are suggested again are taken from the run"
    apart = len(folder.files.names(f"{EARLIER}/rows"))
    if apart:
        where = f"{folder.where}/{EARLIER}"
        parts = counted(apart, "checkpoint")
        yield f"replaced by new rows, or no longer in the study: {parts}, kept in {where}"


class _Count:
    """Checkpoints of trials and their rows."""

    def __init__(self) -> None:
        self._trials: set[str] = set()
        self._checkpoints = self._rows = 0

    def add(self, trial: Trial) -> None:
        """Add a checkpoint of a trial."""
        self._trials.add(trial.id)
        self._checkpoints += 1
        self._rows += trial.replicates * len(trial.settings)

    def __str__(self) -> str:
        if not self._trials:
            return "nothing"
        rows, checkpoints = counted(self._rows, "row"), counted(self._checkpoints, "checkpoint")
        return f"{rows} at {checkpoints} of {counted(len(self._trials), 'trial')}"
