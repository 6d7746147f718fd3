"""TensorBoard event files that grow while a study runs.

A thread reads finished checkpoints back from the run folder, so that no trial waits for its
pictures, with either engine. Results of earlier sessions are written again first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from dgray.config.parts import BASE
from dgray.config.reading.domains import Domain
from dgray.engine.events import CheckpointDone, EngineStarted, Event
from dgray.files import inside
from dgray.plan.plan import Plan, Trial
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import source_of, study_text
from dgray.reporting.table import StudyTable, study_table
from dgray.reporting.tensorboard.front import FrontPage
from dgray.reporting.tensorboard.hparams import Axes, Interval, hparams_of
from dgray.reporting.tensorboard.rows import Rows
from dgray.reporting.tensorboard.writer import TensorBoardWriter, rebuild


class LiveTensorBoard:
    """Writer of the event files of one run: a context manager with an observer of events."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        *,
        examples: Iterable[Trial] = (),
        domains: Iterable[Domain] = (),
    ) -> None:
        """Create the writer; it reads and writes nothing before the engine has started.

        Args:
            plan: trials that are certain to run.
            folder: the run folder.
            examples: example trials of the searches; empty without searches.
            domains: fields that searches vary, with their ranges.
        """
        self._plan, self._examples, self._domains = plan, tuple(examples), tuple(domains)
        self._folder = folder
        self._done: SimpleQueue[CheckpointDone | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write all observed checkpoints, then stop."""
        if self._thread is not None:
            self._done.put(None)
            self._thread.join()

    def observe(self, event: Event) -> None:
        """Start once the engine has trials to run, and queue every finished checkpoint."""
        match event:
            case EngineStarted() if self._will_run():
                # Read before any trial can add a row, which would be written twice.
                earlier = _read(self._folder)
                self._thread = threading.Thread(
                    target=self._follow, args=(earlier,), name="tensorboard", daemon=True
                )
                self._thread.start()
            case CheckpointDone():
                self._done.put(event)

    @property
    def failure(self) -> Exception | None:
        """The error that stopped the thread before the end of the study, if any."""
        return self._failure

    def _will_run(self) -> bool:
        return bool(self._examples) or self._folder.missing_rows(self._plan.trials) > 0

    def _follow(self, earlier: StudyTable | None) -> None:
        try:
            writer = self._open(earlier)
            while (event := self._done.get()) is not None:
                checkpoint = event.trial_id, event.epoch
                writer.write(
                    Rows.of_table(self._folder.read_rows(*checkpoint)),
                    Rows.of_table(self._folder.read_clouds(*checkpoint)),
                )
        except Exception as error:  # must not end the study; the report writes all files again
            self._failure = error

    def _open(self, earlier: StudyTable | None) -> TensorBoardWriter:
        folder = inside(self._folder.path, "tensorboard")
        axes = _axes((*self._plan.trials, *self._examples), self._domains)
        front = _front((*self._plan.trials, *self._examples))
        if earlier is not None:
            return rebuild(earlier, folder, axes, front=front)
        writer = TensorBoardWriter(folder, front)
        writer.write_experiment(axes)
        writer.write_texts(study_text(source_of(self._folder)))
        return writer


def _read(folder: RunFolder) -> StudyTable | None:
    rows = folder.row_table()
    return study_table(rows, folder.clouds(), folder.losses()) if rows.num_rows else None


def _front(trials: Iterable[Trial]) -> FrontPage:
    """Choice of curves by the plan: the epochs of its trials, and the metrics of its searches."""
    trials = list(trials)
    epochs = [epoch for trial in trials for epoch in trial.epochs if epoch > 0]
    searches = [trial.config.search for trial in trials]
    metrics = max((len(s.metrics) for s in searches if s.method != "grid"), default=0)
    weights = [
        setting.guidance_weight
        for trial in trials
        if trial.objective != BASE
        for setting in trial.settings
        if setting.guidance_weight is not None
    ]
    weight = min(weights, key=lambda value: abs(value - 1), default=None)
    return FrontPage(weight, (min(epochs), max(epochs)) if epochs else None, 2 * metrics)


def _axes(trials: Iterable[Trial], domains: Iterable[Domain]) -> Axes:
    """Columns of the HPARAMS tab, with all values that the study will have."""
    axes: dict[str, Sequence[Any] | Interval] = {}
    for trial in trials:
        for name, value in hparams_of(trial.objective, trial.axes).items():
            values = axes.setdefault(name, [])
            if isinstance(values, list) and value not in values:
                values.append(value)
    for domain in domains:
        name = "objective" if domain.path == ("fit", "objective") else domain.name
        is_drawn = domain.kind != "choice"
        axes[name] = Interval(domain.low, domain.high) if is_drawn else list(domain.choices)
    return axes
