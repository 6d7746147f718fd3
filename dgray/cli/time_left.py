"""Estimate of the time that a study still takes: the plan's, corrected by the speed so far."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

MAX_GROWTH = 1.2  # factor by which the time left may grow without a reason
_SMALL_GROWTH = 5.0  # seconds; smaller growth is not shown
_PRIOR_SECONDS, _PRIOR_SHARE = 20.0, 0.05  # weight of the plan against the measured speed
_UNFINISHED = 0.98  # share of a stage that counts as done before it ends

Work = Mapping[int, tuple[float, float]]  # epoch -> seconds of training and of evaluation


@dataclass
class _Stage:
    """Checkpoint on which a trial works: its start, and what is reported as done, in seconds."""

    since: float
    reported_at: float
    trained: float = 0.0


class _Waiting:
    """Planned seconds of the trials that have not started; their sum and maximum cost no loop.

    Attributes:
        total: sum of the seconds.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # of negative seconds; may hold outdated ones
        self.total = 0.0

    def put(self, trial_id: str, seconds: float) -> None:
        """Add a trial, or replace its seconds."""
        self.remove(trial_id)
        self._seconds[trial_id] = seconds
        self.total += seconds
        heapq.heappush(self._heap, (-seconds, trial_id))

    def remove(self, trial_id: str) -> None:
        """Remove a trial, if it is there."""
        self.total -= self._seconds.pop(trial_id, 0.0)
        if not self._seconds:
            self.total = 0.0  # without the rounding errors so far

    def longest(self) -> float:
        """Return the largest seconds; 0 without trials."""
        heap = self._heap
        while heap and self._seconds.get(heap[0][1]) != -heap[0][0]:
            heapq.heappop(heap)
        return -heap[0][0] if heap else 0.0


class TimeLeft:
    """Time left of a study, from the events of its trials.

    Args:
        artifact_seconds: estimate for the shared artifacts.
        report_seconds: estimate for the report.
        parallel: trials at a time, until the engine has started.
        clock: seconds; tests replace it.

    Attributes:
        reason: why the time left has last grown by more than a fifth; empty if it has not.
    """

    def __init__(
        self,
        *,
        artifact_seconds: float,
        report_seconds: float,
        parallel: int,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or time.monotonic
        self._artifacts, self._report, self._parallel = artifact_seconds, report_seconds, parallel
        self._started = self._clock()
        self._artifact = ("", self._started, 0.0)  # role, its start, share that is done
        self._work: dict[str, Work] = {}
        self._missing: dict[str, set[int]] = {}
        self._waiting = _Waiting()
        self._stages: dict[str, _Stage] = {}  # of the running trials
        self._typical = 0.0  # seconds of the longest trial
        self._num_to_come = 0
        self._planned = self._taken = 0.0  # seconds of the checkpoints of this session
        self._has_engine = False
        self._lowest = float("inf")
        self._causes = dict.fromkeys(_REASONS, 1.0)
        self.reason = ""

    def add(self, trial_id: str, work: Work, missing: Iterable[int]) -> None:
        """Add a trial with its missing checkpoints, or change them."""
        self._work[trial_id], self._missing[trial_id] = work, set(missing)
        self._typical = max(self._typical, sum(map(sum, work.values())))
        self._waiting.put(trial_id, self._planned_seconds(trial_id))

    def set_trials_to_come(self, number: int) -> None:
        """Set the number of trials that a search will add."""
        self._num_to_come = number

    def set_artifact_share(self, role: str, share: float) -> None:
        """Set the share of a shared artifact that is done."""
        start = self._artifact[1] if self._artifact[0] == role else self._clock()
        self._artifact = role, start, share

    def note_engine_start(self) -> None:
        """Note that the shared artifacts are complete."""
        self._has_engine = True

    def set_places(self, parallel: int) -> None:
        """Set how many trials run at a time."""
        self._parallel = max(1, parallel)

    def note_trial_start(self, trial_id: str) -> None:
        """Note that a trial works on its next checkpoint."""
        now = self._clock()
        self._waiting.remove(trial_id)
        self._stages[trial_id] = _Stage(now, now)

    def set_epochs(self, trial_id: str, epochs: float) -> None:
        """Set how many epochs a running trial has trained."""
        stage, missing = self._stages.get(trial_id), self._missing.get(trial_id)
        if stage is None or not missing:
            return
        epoch = min(missing)
        start = max((e for e in self._work[trial_id] if e < epoch), default=0)
        share = (epochs - start) / max(1, epoch - start)
        stage.trained = self._work[trial_id][epoch][0] * min(1.0, max(0.0, share))
        stage.reported_at = self._clock()

    def note_checkpoint(self, trial_id: str, epoch: int) -> None:
        """Note that a checkpoint is complete."""
        if epoch in self._missing.get(trial_id, ()) and trial_id in self._stages:
            self._planned += sum(self._work[trial_id][epoch])
            self._taken += self._clock() - self._stages[trial_id].since
            self.note_trial_start(trial_id)
        self._missing.get(trial_id, set()).discard(epoch)
        if trial_id not in self._stages:  # from the cache
            self._waiting.put(trial_id, self._planned_seconds(trial_id))

    def note_trial_end(self, trial_id: str) -> None:
        """Note that a trial has ended, with or without all its checkpoints."""
        self._stages.pop(trial_id, None)
        self._missing.pop(trial_id, None)
        self._waiting.remove(trial_id)

    def seconds(self) -> float:
        """Return the seconds left; ``reason`` is set if they grow by more than a fifth."""
        slowness, running = self._slowness(), self._running_seconds()
        queue = self._waiting.total + sum(running) + self._num_to_come * self._typical
        longest = max(self._waiting.longest(), *running, 0.0)
        trials = slowness * max(queue / self._parallel, longest)
        artifacts = self._artifact_seconds()
        total = artifacts + trials + self._report
        causes = {
            "slowness": slowness,
            "parallel": 1 / self._parallel,
            "work": queue,
            "artifacts": artifacts,
        }
        if total <= self._lowest * MAX_GROWTH:
            if total <= self._lowest:
                self._lowest, self._causes = total, causes
            return total
        if total - self._lowest < _SMALL_GROWTH:
            return self._lowest * MAX_GROWTH
        grown = max(causes, key=lambda name: causes[name] / (self._causes[name] or 1e-9))
        self.reason = _REASONS[grown].format(slowness=slowness, parallel=self._parallel)
        self._lowest, self._causes = total, causes
        return total

    def share_done(self) -> float:
        """Return the share of the work of this session that is done."""
        left = self._waiting.total + sum(self._running_seconds())
        left += self._num_to_come * self._typical
        done = sum(self._done_of(trial_id) for trial_id in self._stages) + self._planned
        return done / (done + left) if done + left else 0.0

    def _artifact_seconds(self) -> float:
        if self._has_engine:
            return 0.0
        _, start, share = self._artifact
        expected = self._artifacts - (self._clock() - self._started)
        projected = (self._clock() - start) * (1 - share) / share if share > 0.05 else 0.0
        return max(expected, projected, 0.0)

    def _running_seconds(self) -> list[float]:
        """Return the planned seconds that each running trial has left."""
        return [self._planned_seconds(t) - self._done_of(t) for t in self._stages]

    def _planned_seconds(self, trial_id: str) -> float:
        """Return the planned seconds of the missing checkpoints of a trial."""
        return sum(sum(self._work[trial_id][e]) for e in self._missing.get(trial_id, ()))

    def _done_of(self, trial_id: str) -> float:
        """Return the planned seconds that a running trial has done of its checkpoint.

        Between two reports it is assumed to continue at the speed so far, to the end of its stage.
        """
        missing = self._missing.get(trial_id)
        if not missing:
            return 0.0
        fit, evaluation = self._work[trial_id][min(missing)]
        stage = self._stages[trial_id]
        since = (self._clock() - stage.reported_at) / self._measured()
        return min(stage.trained + since, _UNFINISHED * (fit + evaluation))

    def _measured(self) -> float:
        prior = max(_PRIOR_SECONDS, _PRIOR_SHARE * self._planned)
        return (self._taken + prior) / (self._planned + prior)

    def _slowness(self) -> float:
        """Return how many times as long as planned trials take, running ones included."""
        prior = max(_PRIOR_SECONDS, _PRIOR_SHARE * self._planned)
        taken = sum(self._clock() - stage.since for stage in self._stages.values())
        done = sum(map(self._done_of, self._stages))
        return (self._taken + taken + prior) / (self._planned + done + prior)


_REASONS = {
    "slowness": "trials take {slowness:.1f} times as long as planned",
    "parallel": "only {parallel} at a time",
    "work": "trials were added, or are repeated",
    "artifacts": "the shared artifacts take longer than planned",
}
