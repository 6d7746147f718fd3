"""Shared artifacts computed by Ray tasks, as many at a time as the cluster holds.

Each computation is a task that streams its steps to the driver, which stores states and results. A
computation whose worker is lost is restarted from its last state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from dgray.engine.events import Observe, WorkerLost
from dgray.engine.nodes import num_fitting

if TYPE_CHECKING:
    from dgray.problem.make_shared import ArtifactStream, Job, Step

_POLL_SECONDS = 1.0  # after which the size of the cluster is read again


class ArtifactWorkers:
    """Workers (``dgray.problem.shared.Workers``) that are Ray tasks."""

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

    def make(
        self,
        jobs: Sequence[Job],
        made: Mapping[str, bytes],
        state: Callable[[str], bytes | None],
    ) -> Iterator[tuple[Job, Step | bytes]]:
        """Yield steps and results of independent jobs in the order in which they arrive.

        Raises:
            RuntimeError: the workers of a computation were lost too often.
        """
        for job in (job for job in jobs if job.needs_driver_files):
            yield from ((job, step) for step in job.run(made, state(job.key)))
        waiting = deque(job for job in jobs if not job.needs_driver_files)
        shared = ray.put(dict(made)) if waiting else None
        running: dict[Any, Job] = {}
        failures: dict[str, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < max(1, num_fitting([self._request])):
                    job = waiting.popleft()
                    running[self._start(job, shared, state(job.key))] = job
                ready: list[Any] = ray.wait(
                    list(running), timeout=_POLL_SECONDS, fetch_local=False
                )[0]
                for stream in ready:
                    job = running[stream]
                    try:
                        yield job, ray.get(next(stream))
                    except StopIteration:
                        del running[stream]
                    except RayTaskError as error:
                        del running[stream]
                        raise error.cause from None
                    except RayError as error:
                        del running[stream]
                        failures[job.key] = failures.get(job.key, 0) + 1
                        self._observe(WorkerLost(what=job.role))
                        if failures[job.key] > self._max_failures:
                            raise RuntimeError(_lost(failures[job.key], error)) from None
                        waiting.appendleft(job)
        finally:
            # Without force, which raises KeyboardInterrupt in the task. With force Ray kills the
            # worker process, which by then may run another task, and a raylet has died of it.
            for stream in running:
                ray.cancel(stream)

    def _start(self, job: Job, made: Any, state: bytes | None) -> Any:
        make = ray.remote(num_returns="streaming", max_retries=0)(_make)
        options = {
            "num_cpus": self._request.get("CPU", 0),
            "num_gpus": self._request.get("GPU", 0),
        }
        return make.options(**options).remote(job, made, state)


def _make(job: Job, made: Mapping[str, bytes], state: bytes | None) -> ArtifactStream:
    """Run a job; executed by a worker."""
    yield from job.run(made, state)


def _lost(times: int, error: RayError) -> str:
    return (
        f"its workers were lost {times} times ({type(error).__name__}); there may be too little "
        "memory: lower evaluate.batch_size or evaluate.shard_size, or raise "
        "resources.max_failures"
    )
