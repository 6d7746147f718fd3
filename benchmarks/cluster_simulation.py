"""Simulation of a study on many GPUs from measured costs of single items.

Nothing here was run on a cluster. In the model, a worker receives a trial from the driver,
computes its checkpoints and sends each to the writer. Driver and writer serve one request at a
time. A worker waits until its rows are on disk and, between trials, for the driver. Workers do not
compete for a node, and neither network nor disk has a limit of its own.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Measured seconds of one item.

    Attributes:
        driver_trial: driver, per trial of one checkpoint: Tune, schedule, events, progress,
            TensorBoard.
        driver_checkpoint: driver, per further checkpoint of a trial.
        writer_checkpoint: writer, per checkpoint: rows, samples, losses, state, flushed to disk.
        worker_start: start of a worker process: Ray's actor and the import of torch.
    """

    driver_trial: float
    driver_checkpoint: float
    writer_checkpoint: float
    worker_start: float


@dataclass(frozen=True)
class Outcome:
    """Result of a simulated study.

    Attributes:
        seconds: wall clock of the trials.
        efficiency: share of the time of the workers in which they compute.
        driver: share of the time in which the driver is busy.
        writer: share of the time in which the writer is busy.
    """

    seconds: float
    efficiency: float
    driver: float
    writer: float

    @property
    def limit(self) -> str:
        """Name of the dominating term."""
        if self.efficiency > 0.9:
            return "trials"
        busiest = max(("driver", self.driver), ("writer", self.writer), key=lambda item: item[1])
        return busiest[0] if busiest[1] > 0.9 else "start and last trials"


def simulate(
    costs: Costs, *, workers: int, trials: int, checkpoints: int, checkpoint_seconds: float
) -> Outcome:
    """Simulate a study of equal trials.

    Args:
        costs: seconds of single items.
        workers: workers of one GPU each.
        trials: number of trials.
        checkpoints: checkpoints of a trial.
        checkpoint_seconds: computation of one checkpoint.
    """
    driver_free = writer_free = driver_busy = writer_busy = end = 0.0
    # Each event: time, worker, checkpoints left of its trial (-1: needs a trial).
    events = [(costs.worker_start, worker, -1) for worker in range(workers)]
    heapq.heapify(events)
    to_start = trials
    while events:
        now, worker, left = heapq.heappop(events)
        if left < 0:
            if not to_start:
                continue
            to_start -= 1
            driver_free = max(driver_free, now) + costs.driver_trial
            driver_busy += costs.driver_trial
            heapq.heappush(events, (driver_free + checkpoint_seconds, worker, checkpoints))
            continue
        writer_free = max(writer_free, now) + costs.writer_checkpoint
        writer_busy += costs.writer_checkpoint
        further = costs.driver_checkpoint if left < checkpoints else 0.0
        driver_free = max(driver_free, writer_free) + further
        driver_busy += further
        end = max(end, driver_free)
        is_last = left == 1
        # A worker continues once its rows are on disk; the driver reads its report meanwhile.
        next_event = writer_free if is_last else writer_free + checkpoint_seconds
        heapq.heappush(events, (next_event, worker, -1 if is_last else left - 1))
    computed = trials * checkpoints * checkpoint_seconds
    return Outcome(end, computed / (workers * end), driver_busy / end, writer_busy / end)
