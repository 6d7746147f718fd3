"""A schedule as Ray Tune sees it: a searcher that suggests trials, a scheduler that stops them.

Optuna's study is not Tune's: rows are the record, and Tune only executes (see
``dgray.search.cell_search``). Knows Tune's interfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dgray.plan.plan import Trial
from dgray.search.schedule import Schedule


class ScheduleSearcher(Searcher):
    """Gives a trial whenever there is one and a place for it."""

    def __init__(
        self, schedule: Schedule, given: dict[str, Trial], capacity: Callable[[], int]
    ) -> None:
        """``given``: filled with every trial by id; ``capacity``: trials at a time, now."""
        super().__init__()
        self._schedule = schedule
        self._given = given
        self._capacity = capacity
        self._running: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune saves it to disk, and a folder may hold a lock and secrets."""
        return {}

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Nothing of Tune's own settings is used."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next trial, as its id and itself; None: not now; FINISHED: never."""
        if len(self._running) >= self._capacity():
            return None
        trial = self._schedule.next()
        if trial is None:
            done = not self._running and self._schedule.is_over()
            return Searcher.FINISHED if done else None
        self._running.add(trial_id)
        self._given[trial.id] = trial
        return {"trial": trial.id, "content": TrialContent(trial)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A place is free again."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a run is resumed from its rows and events."""

    def restore(self, checkpoint_path: str) -> None:
        """Likewise."""


class TrialContent:
    """A trial on its way to a worker; Tune writes it into names and tables, where it is short."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def __repr__(self) -> str:
        return self.trial.id


class EarlyStopping(FIFOScheduler):
    """Stops a trial at the checkpoints at which the schedule says so."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._schedule = schedule

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of the searcher."""
        return {}

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Called when a checkpoint's rows are on disk."""
        if "epoch" in result and self._schedule.checkpoint(trial.config["trial"], result["epoch"]):
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


def tune_config(
    schedule: Schedule, given: dict[str, Trial], capacity: Callable[[], int]
) -> tune.TuneConfig:
    """Tune's settings: as many trials as the schedule gives."""
    return tune.TuneConfig(
        num_samples=-1,
        search_alg=ScheduleSearcher(schedule, given, capacity),
        scheduler=EarlyStopping(schedule),
        reuse_actors=True,
    )
