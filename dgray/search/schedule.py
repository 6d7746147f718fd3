"""What an engine is told to run: trials one after the other, and when to stop one.

Knows plans and run folders; neither Ray nor how a trial is computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from dgray.plan.cost import trial_seconds
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder

# Copies known results of a trial into the run folder (``dgray.engine.result_cache``).
Recall = Callable[[Trial], None]


class Schedule(Protocol):
    """Asked by an engine from one thread."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that are known so far, as far as they are to be trained."""
        ...

    @property
    def examples(self) -> tuple[Trial, ...]:
        """Trials whose artifacts are all that any trial to come needs; none if none comes."""
        ...

    @property
    def num_to_come(self) -> int:
        """Trials that are not known yet, as far as their number is."""
        ...

    def next(self) -> Trial | None:
        """A trial to be started now; None: none at the moment."""
        ...

    def is_over(self) -> bool:
        """Whether no more will come, whatever the running ones give."""
        ...

    def checkpoint(self, trial_id: str, epoch: int) -> bool:
        """The rows of a checkpoint are there; whether the trial is to stop at it."""
        ...

    def finished(self, trial_id: str, failure: str | None) -> None:
        """A trial ended; ``failure``: why it has not all its checkpoints."""
        ...


def no_recall(trial: Trial) -> None:
    """Where there is no cache, nothing is recalled."""


class GridSchedule:
    """Every trial of a plan that owes rows, costly ones first, so that workers end together."""

    def __init__(
        self, trials: Iterable[Trial], folder: RunFolder, recall: Recall = no_recall
    ) -> None:
        """``folder``: what it holds is not run again; ``recall``: fills it with what is known."""
        self._folder, self._recall = folder, recall
        self.trials = tuple(trials)
        owed = [trial for trial in self.trials if folder.missing_epochs(trial)]
        self.examples = tuple(owed)
        self.num_to_come = 0
        self._owed = deque(sorted(owed, key=trial_seconds, reverse=True))

    def next(self) -> Trial | None:
        """See ``Schedule``."""
        while self._owed:
            trial = self._owed.popleft()
            self._recall(trial)
            if self._folder.missing_epochs(trial):
                return trial
        return None

    def is_over(self) -> bool:
        """See ``Schedule``."""
        return not self._owed

    def checkpoint(self, trial_id: str, epoch: int) -> bool:
        """See ``Schedule``: every trial of a grid trains to its end."""
        return False

    def finished(self, trial_id: str, failure: str | None) -> None:
        """See ``Schedule``."""


class Search(Protocol):
    """The search of one cell (``dgray.search.cell_search``), as a schedule sees it."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Of all points so far."""
        ...

    @property
    def example(self) -> Trial:
        """A trial whose artifacts are those of all."""
        ...

    @property
    def num_asked(self) -> int:
        """Points so far."""
        ...

    @property
    def num_to_come(self) -> int:
        """Points that will still be asked for; 0 where only time limits them."""
        ...

    def ask(self) -> Trial | None:
        """A point to be run now; None: none at the moment."""
        ...

    def is_over(self) -> bool:
        """Whether no further point will be asked for."""
        ...

    def owns(self, trial_id: str) -> bool:
        """Whether the trial is one of its points."""
        ...

    def checkpoint(self, trial_id: str, epoch: int) -> bool:
        """See ``Schedule``."""
        ...

    def finished(self, trial_id: str, failure: str | None) -> None:
        """See ``Schedule``."""
        ...


class SearchSchedule:
    """The base and the controls, then the searches of all cells, fewest asked first."""

    def __init__(self, fixed: GridSchedule, searches: Iterable[Search]) -> None:
        """``fixed``: trials that no search asks for."""
        self._fixed = fixed
        self._searches = list(searches)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """See ``Schedule``."""
        found = [t for search in self._searches for t in search.trials]
        return tuple({trial.id: trial for trial in (*self._fixed.trials, *found)}.values())

    @property
    def examples(self) -> tuple[Trial, ...]:
        """See ``Schedule``."""
        open_searches = [search for search in self._searches if not search.is_over()]
        return (*self._fixed.examples, *(search.example for search in open_searches))

    @property
    def num_to_come(self) -> int:
        """See ``Schedule``."""
        return sum(search.num_to_come for search in self._searches)

    def next(self) -> Trial | None:
        """See ``Schedule``."""
        fixed = self._fixed.next()
        if fixed is not None:
            return fixed
        for search in sorted(self._searches, key=lambda search: search.num_asked):
            trial = search.ask()
            if trial is not None:
                return trial
        return None

    def is_over(self) -> bool:
        """See ``Schedule``."""
        return self._fixed.is_over() and all(search.is_over() for search in self._searches)

    def checkpoint(self, trial_id: str, epoch: int) -> bool:
        """See ``Schedule``."""
        return any(
            search.checkpoint(trial_id, epoch)
            for search in self._searches
            if search.owns(trial_id)
        )

    def finished(self, trial_id: str, failure: str | None) -> None:
        """See ``Schedule``."""
        for search in self._searches:
            if search.owns(trial_id):
                search.finished(trial_id, failure)


def trained_until(trial: Trial, epoch: int) -> Trial:
    """The trial as if an epoch were its last: one that was stopped there owes no more."""
    return replace(trial, epochs=tuple(each for each in trial.epochs if each <= epoch))
