"""Adapters of a schedule to Ray Tune: searcher (suggests trials) and scheduler (stops them).

Tune only executes: searches run in ``dgray.search.cell_search`` and do not use Tune's Optuna.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import cloudpickle
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dgray.plan.plan import Trial
from dgray.search.schedule import Schedule


class ScheduleSearcher(Searcher):
    """Searcher that suggests a trial whenever the schedule has one and there is a place."""

    def __init__(
        self, schedule: Schedule, trials: dict[str, Trial], capacity: Callable[[], int]
    ) -> None:
        """Create the searcher.

        Args:
            schedule: schedule of the trials.
            trials: filled with every suggested trial by id.
            capacity: returns how many trials may be requested at present.
        """
        super().__init__()
        self._schedule = schedule
        self._suggested = trials
        self._capacity = capacity
        self._running: set[str] = set()
        self._repeated: deque[Trial] = deque()

    def repeat(self, trial: Trial) -> None:
        """Suggest a trial once more, before those of the schedule."""
        self._repeated.append(trial)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles searchers, and a run folder may hold a lock and secrets."""
        return {}

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Accept Tune's own settings, none of which is used."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial, None if there is none now, FINISHED if none will come."""
        if len(self._running) >= self._capacity():
            return None
        trial = self._repeated.popleft() if self._repeated else self._schedule.next()
        if trial is None:
            done = not self._running and self._schedule.is_over()
            return Searcher.FINISHED if done else None
        self._running.add(trial_id)
        self._suggested[trial.id] = trial
        return {"trial": trial.id, "content": TrialContent(trial)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Free the place of a trial."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a run is resumed from its rows and search events."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class TrialContent:
    """A trial for a worker, with a short ``repr`` for Tune's names and tables.

    Tune copies and pickles it several times, so it holds bytes.
    """

    def __init__(self, trial: Trial) -> None:
        self._id, self._pickled = trial.id, cloudpickle.dumps(trial)

    def __repr__(self) -> str:
        return self._id

    @property
    def trial(self) -> Trial:
        """The trial."""
        trial: Trial = cloudpickle.loads(self._pickled)
        return trial


class EarlyStoppingScheduler(FIFOScheduler):
    """Scheduler that stops a trial when the schedule does."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._schedule = schedule

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing, like the searcher."""
        return {}

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or continue a trial at a checkpoint whose rows are on disk."""
        if "epoch" not in result:
            return TrialScheduler.CONTINUE
        must_stop = self._schedule.report_checkpoint(trial.config["trial"], result["epoch"])
        return TrialScheduler.STOP if must_stop else TrialScheduler.CONTINUE


def tune_config(schedule: Schedule, searcher: ScheduleSearcher) -> tune.TuneConfig:
    """Return Tune's settings for a schedule."""
    return tune.TuneConfig(
        num_samples=-1,
        search_alg=searcher,
        scheduler=EarlyStoppingScheduler(schedule),
        reuse_actors=True,
    )
