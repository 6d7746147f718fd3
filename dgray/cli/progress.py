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

from dgray.cli.time_left import TimeLeft
from dgray.engine.events import (
    ArtifactStep,
    BestSetting,
    CheckpointDone,
    EngineStarted,
    Event,
    PlacesChanged,
    TrialFailed,
    TrialFinished,
    TrialProgress,
    TrialStarted,
)
from dgray.engine.interrupt import STOPPING, acknowledge_in_view, is_stopping
from dgray.plan.cost import checkpoint_seconds, duration
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.reporting.trial_names import name_of
from dgray.search.schedule import Schedule

_QUIET_SECONDS = 10.0  # without a line, after which artifacts and trainings print one


class Progress:
    """Progress view of one session; a context manager whose ``observe`` takes the events.

    Args:
        schedule: schedule of the study.
        folder: its complete checkpoints count as done, but not for the speed of this session.
        console: to print to.
        time_left: with the estimates of the plan.
    """

    def __init__(
        self, schedule: Schedule, folder: RunFolder, console: Console, time_left: TimeLeft
    ) -> None:
        self._console, self._time = console, time_left
        self._schedule, self._folder = schedule, folder
        self._trials: dict[str, Trial] = {}
        self._done: dict[str, set[int]] = {}
        self._epochs: dict[str, float] = {}  # of the running trials
        self._reason = ""
        self._scheduled: tuple[Trial, ...] = ()
        self._num_checkpoints = self._num_done = self._num_left = 0
        self._update_trials()
        self._running: set[str] = set()
        self._failed: dict[str, str] = {}
        self._best: dict[str, tuple[str, BestSetting]] = {}
        self._where, self._engine = "starting", ""
        self._started = self._printed = time.monotonic()
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Show the live view on a terminal."""
        if self._console.is_terminal:
            self._live.start()
            acknowledge_in_view(is_live=True)
        self._print(f"estimated time: {duration(self._time.seconds())}")
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
                self._engine = where
                self._time.note_engine_start()
                self._time.set_places(num_workers)
                self._where = f"{num_workers} at a time, using {where}"
                left = self._num_left + self._schedule.num_to_come
                self._print(f"trials to run: {left} ({self._where})")
            case PlacesChanged(num_places=num_places, waits_for=waits_for):
                self._time.set_places(num_places)
                self._where = waits_for or f"{num_places} at a time, using {self._engine}"
                self._print(waits_for or f"now {self._where}")
            case TrialStarted(trial_id=trial_id):
                self._update_trials()
                self._running.add(trial_id)
                self._time.note_trial_start(trial_id)
            case TrialProgress(trial_id=trial_id, epochs=epochs):
                self._progress(trial_id, epochs)
            case CheckpointDone():
                self._checkpoint(event)
            case TrialFailed(trial_id=trial_id, reason=reason):
                self._update_trials()  # a trial may fail before it has started
                self._end(trial_id)
                self._failed[trial_id] = reason
                self._print(f"FAILED {name_of(self._trials[trial_id].label)}: {reason}")
            case TrialFinished(trial_id=trial_id):
                self._update_trials()
                self._end(trial_id)

    def _update_trials(self) -> None:
        """Read the trials of the schedule again: a search adds trials and stops some early."""
        self._time.set_trials_to_come(self._schedule.num_to_come)
        trials = self._schedule.trials
        if trials is self._scheduled:  # of a grid
            return
        self._scheduled = trials
        for trial in trials:
            self._trials[trial.id] = trial
            if trial.id not in self._done:
                missing = set(self._folder.missing_epochs(trial))
                self._done[trial.id] = set(trial.epochs) - missing
                self._time.add(trial.id, checkpoint_seconds(trial), missing)
        self._num_checkpoints = sum(len(trial.epochs) for trial in self._trials.values())
        self._num_done = sum(map(len, self._done.values()))
        self._num_left = sum(len(self._done[t.id]) < len(t.epochs) for t in self._trials.values())

    def _end(self, trial_id: str) -> None:
        self._running.discard(trial_id)
        self._epochs.pop(trial_id, None)
        self._time.note_trial_end(trial_id)

    def _progress(self, trial_id: str, epochs: float) -> None:
        """Note the epochs of a training; without a terminal, print them now and then."""
        self._epochs[trial_id] = epochs
        self._time.set_epochs(trial_id, epochs)
        if time.monotonic() - self._printed > _QUIET_SECONDS:
            self._print(f"{self._running_text(trial_id)} ({self._left_text()})")

    def _running_text(self, trial_id: str) -> str:
        """Return a running trial with its epochs of training."""
        trial = self._trials[trial_id]
        name, epochs = name_of(trial.label), self._epochs.get(trial_id)
        if not trial.is_trained or epochs is None:
            return name
        if any(epoch <= epochs for epoch in set(trial.epochs) - self._done[trial_id]):
            return f"{name}, evaluating epoch {epochs:.0f}"
        return f"{name}, epoch {epochs:.3g} of {trial.epochs[-1]}"

    @property
    def failures(self) -> dict[str, str]:
        """Reason of each failed trial, by id."""
        return dict(self._failed)

    def render(self) -> RenderableType:
        """Return the live view."""
        num_trials = len(self._trials) + self._schedule.num_to_come
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=1.0, completed=self._time.share_done(), width=30),
            f"{self._num_done}/{self._num_checkpoints} checkpoints",
            f"{len(self._trials) - self._num_left}/{num_trials} trials",
            Text(f"{len(self._failed)} failed", style="red") if self._failed else "",
            f"{duration(time.monotonic() - self._started)} elapsed",
            f"{duration(self._time.seconds())} left",
        )
        running = [self._running_text(trial_id) for trial_id in sorted(self._running)]
        lines: list[RenderableType] = [head, Text(self._where, style="dim")]
        if self._time.reason:
            lines.append(Text(f"longer than estimated: {self._time.reason}", style="dim"))
        if is_stopping():
            lines.append(Text(STOPPING, style="yellow"))
        lines += [Text(f"  running: {label}", style="dim") for label in running[:8]]
        return Group(*lines, *([self._best_table()] if self._best else []))

    def _artifact(self, event: ArtifactStep) -> None:
        """Print the progress of an artifact, at its end and at most every ``_QUIET_SECONDS``."""
        line = f"building {event.role}: {event.done}/{event.total} {event.text}"
        self._time.set_artifact_share(event.role, event.done / max(1, event.total))
        is_due = event.done == event.total or time.monotonic() - self._printed > _QUIET_SECONDS
        is_new, self._where = line != self._where, line
        if event.total > 1 and is_due and is_new:
            self._print(self._where)

    def _checkpoint(self, event: CheckpointDone) -> None:
        if event.trial_id not in self._trials:
            self._update_trials()  # a result from the cache precedes the start
        trial = self._trials[event.trial_id]
        name = name_of(trial.label)
        if event.epoch not in (done := self._done[trial.id]):
            done.add(event.epoch)
            self._num_done += 1
            self._num_left -= len(done) == len(trial.epochs)
        self._time.note_checkpoint(trial.id, event.epoch)
        if event.best is not None:
            current = self._best.get(trial.objective)
            if current is None or _preferred(event.best, current[1]):
                self._best[trial.objective] = (f"{name}, epoch {event.epoch}", event.best)
        best = f": {_best_text(event.best)}" if event.best else ""
        self._print(
            f"{self._num_done}/{self._num_checkpoints} {name}, epoch {event.epoch}{best} "
            f"({self._left_text()})"
        )

    def _best_table(self) -> Table:
        table = Table(box=None, pad_edge=False, title_justify="left")
        for column in ("objective", "best so far (validation)", "setting"):
            table.add_column(column)
        for objective, (label, best) in self._best.items():
            table.add_row(objective, _best_text(best), label)
        return table

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _left_text(self) -> str:
        """Return the time left, and why it has grown, once."""
        text = f"{duration(self._time.seconds())} left"
        if self._time.reason in ("", self._reason):
            return text
        self._reason = self._time.reason
        return f"{text}; {self._reason}"


def _preferred(new: BestSetting, old: BestSetting) -> bool:
    if new.validation_change is None or old.validation_change is None:
        return False  # held-out data must not select
    return new.validation_change < old.validation_change


def _best_text(best: BestSetting) -> str:
    weight = "the calibrated weight" if best.weight is None else f"w = {best.weight:g}"
    change = f" ({best.change:+.3g} relative to the base)" if best.change is not None else ""
    return f"{best.metric} {best.value:.3g}{change} with {weight}"
