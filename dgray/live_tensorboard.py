"""TensorBoard while a study runs: each checkpoint is in the event files moments after its rows.

A thread of its own reads the rows back from the run folder, so that no trial waits for a picture
to be drawn, whichever engine runs it. What an earlier session left is written again first. Knows
the plan and the reporting; neither torch nor Ray.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from dgray.engine.events import CheckpointDone, EngineStarted, Event
from dgray.plan import Plan
from dgray.reporting.hparams import hparams_of
from dgray.reporting.table import StudyTable, study_table
from dgray.reporting.tensorboard import TensorBoardWriter, rebuild
from dgray.run_folder import RunFolder


class LiveTensorBoard:
    """Follows one run of a plan. Use it as a context manager, and ``observe`` as an observer."""

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        """Nothing is read or written before the engine has started."""
        self._plan = plan
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
            case EngineStarted() if self._folder.missing_rows(self._plan.trials):
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

    def _follow(self, earlier: StudyTable | None) -> None:
        try:
            writer = self._open(earlier)
            while (event := self._done.get()) is not None:
                writer.write_frames(*self._folder.checkpoint(event.trial_id, event.epoch))
        except Exception as error:  # a view must not end the study; the report writes it all again
            self._failure = error

    def _open(self, earlier: StudyTable | None) -> TensorBoardWriter:
        folder = self._folder.path / "tensorboard"
        axes = _axes(self._plan)
        if earlier is not None:
            return rebuild(earlier, folder, axes)
        writer = TensorBoardWriter(folder)
        writer.write_experiment(axes)
        return writer


def _read(folder: RunFolder) -> StudyTable | None:
    rows = folder.rows()
    return None if rows.empty else study_table(rows, folder.clouds(), folder.losses())


def _axes(plan: Plan) -> dict[str, list[Any]]:
    """Columns of the hparams tab, with every value that the study will have."""
    axes: dict[str, list[Any]] = {}
    for trial in plan.trials:
        for name, value in hparams_of(trial.objective, trial.axes).items():
            values = axes.setdefault(name, [])
            if value not in values:
                values.append(value)
    return axes
