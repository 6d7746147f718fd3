"""Shared artifacts computed by Ray actors, as many at a time as the cluster holds.

An actor streams the steps of a computation to the driver, which stores states and results. A
computation whose actor is lost is restarted from its last state.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from dgray.engine.events import Observe, WorkerLost
from dgray.engine.lost_worker import loss_reason
from dgray.engine.nodes import num_fitting
from dgray.errors import EngineError
from dgray.problem.failure import Made

if TYPE_CHECKING:
    from dgray.problem.artifact_table import ArtifactStream, Job, Step

_POLL_SECONDS = 1.0  # after which the size of the cluster is read again


class ArtifactWorkers:
    """Workers (``dgray.problem.shared.Workers``) that are Ray actors."""

    def __init__(
        self,
        request: Mapping[str, float],
        max_failures: int,
        observe: Observe = lambda event: None,
    ) -> None:
        """Configure the workers.

        Args:
            request: CPUs and GPUs of one computation.
            max_failures: lost workers of one computation after which it fails.
            observe: called with an event for each lost worker.
        """
        self._request = dict(request)
        self._max_failures = max_failures
        self._observe = observe
        self._idle: list[Any] = []  # actors

    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, Made],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        """Yield steps and results of independent jobs in the order in which they arrive.

        Raises:
            EngineError: the workers of a computation were lost too often.
        """
        for job in (job for job in jobs if job.needs_driver_files):
            yield from ((job, step) for step in job.run(made, state(job.key)))
        waiting = deque(job for job in jobs if not job.needs_driver_files)
        shared = ray.put(dict(made)) if waiting else None
        running: dict[Any, tuple[Job, Any]] = {}  # job and actor of each stream of steps
        failures: Counter[str] = Counter()
        try:
            while waiting or running:
                while waiting and len(running) < max(1, num_fitting([self._request])):
                    job = waiting.popleft()
                    actor = self._idle.pop() if self._idle else self._start_actor()
                    running[actor.make.remote(job, shared, state(job.key))] = job, actor
                ready: list[Any] = ray.wait(
                    list(running), timeout=_POLL_SECONDS, fetch_local=False
                )[0]
                for stream in ready:
                    job, actor = running[stream]
                    try:
                        yield job, ray.get(next(stream))
                    except StopIteration:
                        del running[stream]
                        self._idle.append(actor)
                    except RayTaskError as error:
                        raise error.cause from None
                    except RayError as error:
                        del running[stream]
                        failures[job.key] += 1
                        self._observe(WorkerLost(task=job.role))
                        if failures[job.key] > self._max_failures:
                            raise EngineError(_lost(failures[job.key], error)) from None
                        waiting.appendleft(job)
        finally:
            for _, actor in running.values():
                ray.kill(actor)

    def close(self) -> None:
        """End the actors, which serve one call of ``make`` after the other."""
        for actor in self._idle:
            ray.kill(actor)
        self._idle.clear()

    def _start_actor(self) -> Any:
        cpus, gpus = self._request.get("CPU", 0), self._request.get("GPU", 0)
        return ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(_ArtifactWorker).remote()


class _ArtifactWorker:
    """Actor that runs jobs, and not a task: cancelling one that has just ended aborts the driver.

    Ray 2.60: "Check failed: ... Tried to complete task that was not pending".
    """

    @ray.method(num_returns="streaming")
    def make(self, job: Job, made: Mapping[str, Made], state: bytes | None) -> ArtifactStream:
        """Run a job."""
        yield from job.run(made, state)


def _lost(times: int, error: RayError) -> str:
    return f"its workers were lost {times} times; the last reason: {loss_reason(str(error))}"
