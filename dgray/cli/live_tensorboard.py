"""TensorBoard while a study runs: each checkpoint is in the event files moments after its rows.

A thread of its own reads the rows back from the run folder, so that no trial waits for a picture
to be drawn, whichever engine runs it. What an earlier session left is written again first. Knows
the plan and the reporting; neither torch nor Ray.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from dgray.config.reading.domains import Domain
from dgray.engine.events import CheckpointDone, EngineStarted, Event
from dgray.plan.cells import OBJECTIVE
from dgray.plan.plan import Plan, Trial
from dgray.record.run_folder import RunFolder
from dgray.reporting.table import StudyTable, study_table
from dgray.reporting.tensorboard.hparams import Axes, Interval, hparams_of
from dgray.reporting.tensorboard.tensorboard import TensorBoardWriter, rebuild


class LiveTensorBoard:
    """Follows one run of a plan. Use it as a context manager, and ``observe`` as an observer."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        *,
        examples: Iterable[Trial] = (),
        domains: Iterable[Domain] = (),
    ) -> None:
        """Nothing is read or written before the engine has started.

        Args:
            plan: trials that are known.
            folder: of the run.
            examples: trials like those that a search will ask for; none: it asks for no more.
            domains: what searches vary.
        """
        self._plan, self._examples, self._domains = plan, tuple(examples), tuple(domains)
        self._folder = folder
        self._done: SimpleQueue[CheckpointDone | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Ready to observe."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what was observed, and stop."""
        if self._thread is not None:
            self._done.put(None)
            self._thread.join()

    def observe(self, event: Event) -> None:
        """Begin when the engine has something to run; then take in every checkpoint."""
        match event:
            case EngineStarted() if self._will_run():
                # Read here, before any trial can add a row that would then be told a second time.
                earlier = _read(self._folder)
                self._thread = threading.Thread(
                    target=self._follow, args=(earlier,), name="tensorboard", daemon=True
                )
                self._thread.start()
            case CheckpointDone():
                self._done.put(event)

    @property
    def failure(self) -> Exception | None:
        """Why it stopped before the study did."""
        return self._failure

    def _will_run(self) -> bool:
        return bool(self._examples) or self._folder.missing_rows(self._plan.trials) > 0

    def _follow(self, earlier: StudyTable | None) -> None:
        try:
            writer = self._open(earlier)
            while (event := self._done.get()) is not None:
                writer.write_frames(*self._folder.checkpoint(event.trial_id, event.epoch))
        except Exception as error:  # a view must not end the study; the report writes it all again
            self._failure = error

    def _open(self, earlier: StudyTable | None) -> TensorBoardWriter:
        folder = self._folder.path / "tensorboard"
        axes = _axes((*self._plan.trials, *self._examples), self._domains)
        if earlier is not None:
            return rebuild(earlier, folder, axes)
        writer = TensorBoardWriter(folder)
        writer.write_experiment(axes)
        return writer


def _read(folder: RunFolder) -> StudyTable | None:
    rows = folder.rows()
    if rows.empty:
        return None
    return study_table(rows, folder.clouds(), folder.losses(), folder.added_columns())


def _axes(trials: Iterable[Trial], domains: Iterable[Domain]) -> Axes:
    """Columns of the hparams tab, with every value that the study will have."""
    axes: dict[str, Sequence[Any] | Interval] = {}
    for trial in trials:
        for name, value in hparams_of(trial.objective, trial.axes).items():
            values = axes.setdefault(name, [])
            if isinstance(values, list) and value not in values:
                values.append(value)
    for domain in domains:
        name = "objective" if domain.path == OBJECTIVE else domain.name
        is_drawn = domain.kind != "choice"
        axes[name] = Interval(domain.low, domain.high) if is_drawn else list(domain.choices)
    return axes
