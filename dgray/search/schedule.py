"""Order in which an engine runs the trials of a plan, and when it stops one early."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from dgray.plan.cost import trial_seconds
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.records import Recall, no_recall

if TYPE_CHECKING:
    from dgray.search.cell_search import CellSearch


class Schedule(Protocol):
    """Trials of a study in the order in which they are run; used from one thread."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials suggested so far, up to the epoch at which they are to end."""
        ...

    @property
    def examples(self) -> tuple[Trial, ...]:
        """Trials that need every artifact that any trial to come needs; empty if none comes."""
        ...

    @property
    def num_to_come(self) -> int:
        """Number of trials that are not in ``trials`` yet, as far as it is known."""
        ...

    def next(self) -> Trial | None:
        """Return a trial to start now; None if there is none at the moment."""
        ...

    def is_over(self) -> bool:
        """Return whether no further trial will be started."""
        ...

    def report_checkpoint(self, trial_id: str, epoch: int) -> bool:
        """Report the rows of a checkpoint; return whether the trial should stop at it."""
        ...

    def report_end(self, trial_id: str, failure: str | None) -> None:
        """Report the end of a trial; ``failure``: reason why checkpoints are missing."""
        ...


class GridSchedule:
    """Incomplete trials of a plan, the longest first so that workers end at the same time.

    Args:
        trials: trials of the plan.
        folder: its complete trials are not run again.
        recall: copies cached results into the folder.
    """

    def __init__(
        self, trials: Iterable[Trial], folder: RunFolder, recall: Recall = no_recall
    ) -> None:
        self._folder, self._recall = folder, recall
        self.trials = tuple(trials)
        self.examples = tuple(trial for trial in self.trials if folder.missing_epochs(trial))
        self.num_to_come = 0
        self._queue = deque(sorted(self.examples, key=trial_seconds, reverse=True))

    def next(self) -> Trial | None:
        """Return a trial to start now; None if there is none at the moment."""
        while self._queue:
            trial = self._queue.popleft()
            self._recall(trial)
            if self._folder.missing_epochs(trial):
                return trial
        return None

    def is_over(self) -> bool:
        """Return whether no further trial will be started."""
        return not self._queue

    def report_checkpoint(self, trial_id: str, epoch: int) -> bool:
        """Return whether the trial should stop at a checkpoint."""
        return False

    def report_end(self, trial_id: str, failure: str | None) -> None:
        """Report the end of a trial."""


class SearchSchedule:
    """Trials outside of the searches, then those of all searches, fewest points first.

    Trials of earlier points that lost checkpoints, because a record was damaged, run first.

    Args:
        grid: base and controls.
        searches: one per cell.
    """

    def __init__(self, grid: GridSchedule, searches: Iterable[CellSearch]) -> None:
        self._grid = grid
        self._searches = list(searches)
        lost = [t for search in self._searches for t in search.trials_with_lost_checkpoints]
        self._lost = deque({trial.id: trial for trial in lost}.values())
        for search in self._searches:
            search.finish_if_over()
        open_searches = [search.example for search in self._searches if not search.is_over()]
        self.examples = (*grid.examples, *self._lost, *open_searches)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials suggested so far."""
        searched = (trial for search in self._searches for trial in search.trials)
        return tuple({trial.id: trial for trial in (*self._grid.trials, *searched)}.values())

    @property
    def num_to_come(self) -> int:
        """Number of trials that are not suggested yet, as far as it is known."""
        return sum(search.num_to_come for search in self._searches)

    def next(self) -> Trial | None:
        """Return a trial to start now; None if there is none at the moment."""
        trial = self._grid.next()
        if trial is not None:
            return trial
        if self._lost:
            return self._lost.popleft()
        for search in sorted(self._searches, key=lambda search: search.num_suggested):
            trial = search.ask()
            if trial is not None:
                return trial
        return None

    def is_over(self) -> bool:
        """Return whether no further trial will be started."""
        searches = all(search.is_over() for search in self._searches)
        return self._grid.is_over() and not self._lost and searches

    def report_checkpoint(self, trial_id: str, epoch: int) -> bool:
        """Report the rows of a checkpoint; return whether the trial should stop at it."""
        return any(search.report_checkpoint(trial_id, epoch) for search in self._owners(trial_id))

    def report_end(self, trial_id: str, failure: str | None) -> None:
        """Report the end of a trial."""
        for search in self._owners(trial_id):
            search.report_end(trial_id, failure)

    def _owners(self, trial_id: str) -> list[CellSearch]:
        return [search for search in self._searches if search.has_running_point(trial_id)]
