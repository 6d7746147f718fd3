"""Lines that state what is new in a run whose study has changed, and what is reused."""

from __future__ import annotations

from collections.abc import Iterator

from dgray.plan.plan import Plan, Trial
from dgray.record.open_run import OpenRun
from dgray.record.run_files import EARLIER


def growth_lines(plan: Plan, run: OpenRun) -> Iterator[str]:
    """Yield the changes, and what is reused, evaluated again, trained and left out of the report.

    Args:
        plan: plan of the study.
        run: its run, where what exists is in its place (``Reuse``).
    """
    changes, folder = run.history[-1].changes, run.folder
    if not changes:
        yield "the run holds no rows yet, so it takes this study"
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
        yield "searches: their points are taken from the run where they are suggested again"
    apart = len(folder.files.names(f"{EARLIER}/rows"))
    if apart:
        where = f"{folder.where}/{EARLIER}"
        parts = _many(apart, "checkpoint")
        yield f"no longer in the study, so not in the report: {parts}, kept in {where}"


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
        rows, checkpoints = _many(self._rows, "row"), _many(self._checkpoints, "checkpoint")
        return f"{rows} at {checkpoints} of {_many(len(self._trials), 'trial')}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
