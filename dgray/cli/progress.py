"""Progress of a study: a live view on a terminal, otherwise one line per event.

Not ``rich.progress``: its time left would count checkpoints instead of their estimated cost.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dgray.engine.events import (
    ArtifactStep,
    BestSetting,
    CheckpointDone,
    EngineStarted,
    Event,
    PlacesChanged,
    TrialFailed,
    TrialFinished,
    TrialStarted,
)
from dgray.engine.interrupt import STOPPING, acknowledge_in_view, is_stopping
from dgray.plan.cost import duration, trial_seconds
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import Schedule

_QUIET_SECONDS = 10.0  # between lines about one artifact


class Progress:
    """Progress view of one session; a context manager whose ``observe`` takes the events.

    Args:
        schedule: schedule of the study.
        folder: its complete checkpoints count as done, but not for the speed of this session.
        console: to print to.
    """

    def __init__(self, schedule: Schedule, folder: RunFolder, console: Console) -> None:
        self._console = console
        self._schedule, self._folder = schedule, folder
        self._trials: dict[str, Trial] = {}
        self._done: dict[str, set[int]] = {}
        # Estimated seconds of each checkpoint; only their proportions matter.
        self._work: dict[str, float] = {}
        self._update_trials()
        self._work_at_start = self._work_done()
        self._running: set[str] = set()
        self._failed: dict[str, str] = {}
        self._best: dict[str, tuple[str, BestSetting]] = {}
        self._where, self._engine = "starting", ""
        self._started = self._engine_started = time.monotonic()
        self._artifact_printed = self._started
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Show the live view on a terminal."""
        if self._console.is_terminal:
            self._live.start()
            acknowledge_in_view(is_live=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the live view; its last state stays on the screen."""
        self.stop()

    def stop(self) -> None:
        """Stop the live view."""
        if self._live.is_started:
            acknowledge_in_view(is_live=False)
            self._live.stop()

    def observe(self, event: Event) -> None:
        """Update the view; without a terminal, print a line."""
        match event:
            case ArtifactStep():
                self._artifact(event)
            case EngineStarted(where=where, num_workers=num_workers):
                self._engine_started = time.monotonic()
                self._engine = where
                self._where = f"{num_workers} at a time, using {where}"
                left = self._num_trials_left() + self._schedule.num_to_come
                self._print(f"trials to run: {left} ({self._where})")
            case PlacesChanged(num_places=num_places, waits_for=waits_for):
                self._where = waits_for or f"{num_places} at a time, using {self._engine}"
                self._print(waits_for or f"now {self._where}")
            case TrialStarted(trial_id=trial_id):
                self._update_trials()
                self._running.add(trial_id)
            case CheckpointDone():
                self._checkpoint(event)
            case TrialFailed(trial_id=trial_id, reason=reason):
                self._update_trials()  # a trial may fail before it has started
                self._running.discard(trial_id)
                self._failed[trial_id] = reason
                self._print(f"FAILED {self._trials[trial_id].label}: {reason}")
            case TrialFinished(trial_id=trial_id):
                self._update_trials()
                self._running.discard(trial_id)

    def _update_trials(self) -> None:
        """Read the trials of the schedule again: a search adds trials and stops some early."""
        for trial in self._schedule.trials:
            self._trials[trial.id] = trial
            if trial.id not in self._done:
                missing = set(self._folder.missing_epochs(trial))
                self._done[trial.id] = set(trial.epochs) - missing
                self._work[trial.id] = trial_seconds(trial) / len(trial.epochs)

    @property
    def _num_checkpoints(self) -> int:
        return sum(len(trial.epochs) for trial in self._trials.values())

    @property
    def failures(self) -> dict[str, str]:
        """Reason of each failed trial, by id."""
        return dict(self._failed)

    def render(self) -> RenderableType:
        """Return the live view."""
        done, total = self._num_done(), self._num_checkpoints
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=total, completed=done, width=30),
            f"{done}/{total} checkpoints",
            f"{self._num_trials_done()}/{len(self._trials) + self._schedule.num_to_come} trials",
            Text(f"{len(self._failed)} failed", style="red") if self._failed else "",
            f"{duration(time.monotonic() - self._started)} elapsed",
            f"{self._time_left()} left",
        )
        running = [self._trials[trial_id].label for trial_id in sorted(self._running)]
        lines: list[RenderableType] = [head, Text(self._where, style="dim")]
        if is_stopping():
            lines.append(Text(STOPPING, style="yellow"))
        lines += [Text(f"  running: {label}", style="dim") for label in running[:8]]
        return Group(*lines, *([self._best_table()] if self._best else []))

    def _artifact(self, event: ArtifactStep) -> None:
        """Print the progress of an artifact, at its end and at most every ``_QUIET_SECONDS``."""
        line = f"building {event.role}: {event.done}/{event.total} {event.words}"
        now = time.monotonic()
        is_due = event.done == event.total or now - self._artifact_printed > _QUIET_SECONDS
        is_new, self._where = line != self._where, line
        if event.total > 1 and is_due and is_new:
            self._artifact_printed = now
            self._print(self._where)

    def _checkpoint(self, event: CheckpointDone) -> None:
        if event.trial_id not in self._trials:
            self._update_trials()  # a result from the cache precedes the start
        trial = self._trials[event.trial_id]
        self._done[trial.id].add(event.epoch)
        if event.best is not None:
            current = self._best.get(trial.objective)
            if current is None or _preferred(event.best, current[1]):
                self._best[trial.objective] = (f"{trial.label}, epoch {event.epoch}", event.best)
        best = f": {_best_text(event.best)}" if event.best else ""
        self._print(
            f"{self._num_done()}/{self._num_checkpoints} {trial.label}, epoch {event.epoch}{best} "
            f"({self._time_left()} left)"
        )

    def _best_table(self) -> Table:
        table = Table(box=None, pad_edge=False, title_justify="left")
        for column in ("objective", "best so far (validation)", "setting"):
            table.add_column(column)
        for objective, (label, best) in self._best.items():
            table.add_row(objective, _best_text(best), label)
        return table

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _num_done(self) -> int:
        return sum(len(epochs) for epochs in self._done.values())

    def _num_trials_done(self) -> int:
        return len(self._trials) - self._num_trials_left()

    def _num_trials_left(self) -> int:
        return sum(len(self._done[t.id]) < len(t.epochs) for t in self._trials.values())

    def _work_done(self) -> float:
        return sum(self._work[name] * len(epochs) for name, epochs in self._done.items())

    def _time_left(self) -> str:
        done = self._work_done()
        work = [self._work[t.id] * len(t.epochs) for t in self._trials.values()]
        total = sum(work) + self._schedule.num_to_come * max(work)
        failed = sum(
            self._work[name] * (len(self._trials[name].epochs) - len(self._done[name]))
            for name in self._failed
        )
        if done <= self._work_at_start:
            return "unknown time"
        elapsed = time.monotonic() - self._engine_started
        return duration(elapsed * (total - failed - done) / (done - self._work_at_start))


def _preferred(new: BestSetting, old: BestSetting) -> bool:
    if new.validation_change is None or old.validation_change is None:
        return False  # held-out data must not select
    return new.validation_change < old.validation_change


def _best_text(best: BestSetting) -> str:
    weight = "the calibrated weight" if best.weight is None else f"w = {best.weight:g}"
    change = f" ({best.change:+.3g} relative to the base)" if best.change is not None else ""
    return f"{best.metric} {best.value:.3g}{change} with {weight}"
