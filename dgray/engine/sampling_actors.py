"""Sampling actors of a trial: processes that draw and score its images, shard by shard.

Each actor has a bundle in the trial's placement group and a copy of base and feature extractor.
Ray restarts an actor that died and repeats its call; a shard is a function of its seeds, so the
result is the same. Only the actors import torch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from dgray.config.study import StudyConfig
from dgray.engine.lost_worker import loss_reason
from dgray.engine.ray_internals import num_restarts
from dgray.errors import EngineError
from dgray.problem.failure import Made

if TYPE_CHECKING:
    from torch import Tensor

    from dgray.problem.images import ImageProblem
    from dgray.trial.sampling import DrawRequest
    from dgray.trial.shards import ImageShard

Item = TypeVar("Item")

IN_FLIGHT = 2  # calls per actor: one is executed, one waits
BUFFERED = 4  # calls per actor whose results have not been used, finished ones included


def num_actors(config: StudyConfig) -> int:
    """Return the number of a trial's sampling actors; trials of points have none."""
    return config.resources.sampling_actors if config.data.sample_kind == "images" else 0


def in_order(
    actors: Sequence[Any], call: Callable[[Any, Item], Any], items: Sequence[Item]
) -> Iterator[Any]:
    """Yield ``call(actor, item)`` for each item in order, over all actors at a time.

    The next item goes to the actor with the fewest calls, so a slow one gets fewer items.
    """
    num_calls = [0] * len(actors)
    running: dict[Any, int] = {}  # actor of each call that has not returned
    results: deque[Any] = deque()  # calls in the order of the items
    remaining = deque(items)
    while remaining or results:
        while remaining and min(num_calls) < IN_FLIGHT and len(results) < BUFFERED * len(actors):
            index = num_calls.index(min(num_calls))
            result = call(actors[index], remaining.popleft())
            num_calls[index] += 1
            running[result] = index
            results.append(result)
        if results[0] not in running:
            yield ray.get(results.popleft())
            continue
        for result in ray.wait(list(running), fetch_local=False)[0]:
            num_calls[running.pop(result)] -= 1


class SamplingActors:
    """The actors of one trial; a context manager that kills them at its end."""

    def __init__(self, config: StudyConfig, artifacts: Mapping[str, Made]) -> None:
        """Start the actors in the trial's placement group, if there is one."""
        resources = config.resources
        # One copy a node; the reference is kept, since a restarted actor needs the object again.
        self._artifacts = ray.put(dict(artifacts))
        make = ray.remote(
            num_cpus=resources.cpus_per_actor,
            num_gpus=resources.gpus_per_actor,
            max_restarts=resources.max_failures,  # of each actor; then the trial fails
            max_task_retries=resources.max_failures,
        )(_Sampler)
        group = get_current_placement_group()
        self._actors: list[Any] = []
        for index in range(num_actors(config)):
            strategy: Any = "DEFAULT"
            if group is not None:
                strategy = PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=1 + index
                )
            actor = make.options(scheduling_strategy=strategy).remote(config, self._artifacts)
            self._actors.append(actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def times_lost(self) -> int:
        """Return how many times an actor has died and was restarted."""
        return sum(num_restarts(actor) for actor in self._actors)

    def run_shards(
        self, request: DrawRequest, shards: Sequence[range]
    ) -> Iterator[list[ImageShard]]:
        """Draw the shards by all actors, at most ``IN_FLIGHT`` each (see ``RunShards``)."""
        on_cpu = [tensor.detach().cpu() for tensor in request.correction.tensors]
        sent = ray.put((on_cpu or None, request.without_correction()))
        try:
            # In a list, Ray passes the reference, and an actor reads the object once.
            yield from in_order(
                self._actors, lambda actor, s: actor.draw.remote([sent], s), shards
            )
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            reason = loss_reason(str(error))
            raise EngineError(f"a sampling actor died too often; last reason: {reason}") from None


class _Sampler:
    """Actor; all is built once, the correction once a request."""

    def __init__(self, config: StudyConfig, artifacts: Mapping[str, Made]) -> None:
        import torch

        from dgray.problem.build import build_problem
        from dgray.problem.compute_process import prepare_process
        from dgray.problem.make_shared import shared_of
        from dgray.trial.shards import build_shard_worker

        prepare_process(config.resources.cpus_per_trial)  # as in the trial, for the same bits
        device = config.resources.device
        if device == "auto":
            device = "cuda" if config.resources.gpus_per_actor > 0 else "cpu"
        shared = shared_of(config, artifacts)
        self._config = config
        problem = build_problem(config, shared, torch.device(device))
        self._problem = cast("ImageProblem", problem)  # trials of points have no actors
        self._worker = build_shard_worker(config, self._problem, shared)
        self._request: DrawRequest
        self._reference: Any = None  # to the object of ``_request``

    def draw(self, sent: list[Any], seeds: range) -> list[ImageShard]:
        """Draw one shard at every setting.

        Args:
            sent: reference to the weights of the correction and the request.
            seeds: seeds of the shard.
        """
        (reference,) = sent
        if self._reference != reference:
            self._request, self._reference = self._received(*ray.get(reference)), reference
        return self._worker.draw(replace(self._request, seeds=seeds))

    def _received(self, weights: list[Tensor] | None, request: DrawRequest) -> DrawRequest:
        """Return a request with its correction."""
        from dgray.problem.correction import build_member

        replicate = request.replicate or 0  # None: a control, which is not trained
        member = build_member(self._config, self._problem, "base", weights, replicate)
        return replace(request, correction=member)
