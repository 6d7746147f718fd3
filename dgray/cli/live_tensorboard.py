"""TensorBoard event files that grow while a study runs.

A thread reads finished checkpoints back from the run folder, so that no trial waits for its
pictures, with either engine. Results of earlier sessions are written again first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dgray.config.reading.domains import Domain
from dgray.engine.events import CheckpointDone, EngineStarted, Event
from dgray.plan.plan import Plan, Trial
from dgray.record.run_folder import RunFolder

if TYPE_CHECKING:
    from dgray.reporting.table import StudyTable


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
                earlier = _results(self._folder)
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
            from dgray.cli import event_files  # the libraries of reports

            trials = (*self._plan.trials, *self._examples)
            writer = event_files.open_writer(self._folder, trials, self._domains, earlier)
            while (event := self._done.get()) is not None:
                event_files.write_checkpoint(writer, self._folder, event.trial_id, event.epoch)
        except Exception as error:  # must not end the study; the report writes all files again
            self._failure = error


def _results(folder: RunFolder) -> StudyTable | None:
    if not folder.has_rows():
        return None
    from dgray.cli.event_files import read_results  # the libraries of reports

    return read_results(folder)
