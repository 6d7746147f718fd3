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


def num_actors(config: StudyConfig) -> int:
    """Return the number of a trial's sampling actors; trials of points have none."""
    return config.resources.sampling_actors if config.data.sample_kind == "images" else 0


def in_order(
    actors: Sequence[Any], call: Callable[[Any, Item], Any], items: Sequence[Item]
) -> Iterator[Any]:
    """Yield ``call(actor, item)`` for each item in order, over all actors at a time."""
    pending: deque[Any] = deque()
    for index, item in enumerate(items):
        if len(pending) == IN_FLIGHT * len(actors):
            yield ray.get(pending.popleft())
        pending.append(call(actors[index % len(actors)], item))
    while pending:
        yield ray.get(pending.popleft())


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
            yield from in_order(self._actors, lambda actor, s: actor.draw.remote(sent, s), shards)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            reason = loss_reason(str(error))
            raise EngineError(f"a sampling actor died too often; last reason: {reason}") from None


class _Sampler:
    """Actor; everything but the weights of the correction is built once."""

    def __init__(self, config: StudyConfig, artifacts: Mapping[str, Made]) -> None:
        import torch

        from dgray.problem.build import build_problem
        from dgray.problem.make_shared import shared_of
        from dgray.trial.shards import build_shard_worker

        torch.set_num_threads(
            config.resources.cpus_per_trial
        )  # as in the trial, for the same bits
        device = config.resources.device
        if device == "auto":
            device = "cuda" if config.resources.gpus_per_actor > 0 else "cpu"
        shared = shared_of(config, artifacts)
        self._config = config
        problem = build_problem(config, shared, torch.device(device))
        self._problem = cast("ImageProblem", problem)  # trials of points have no actors
        self._worker = build_shard_worker(config, self._problem, shared)

    def draw(
        self, sent: tuple[list[Tensor] | None, DrawRequest], seeds: range
    ) -> list[ImageShard]:
        """Draw one shard at every setting."""
        from dgray.problem.correction import build_member

        weights, request = sent
        replicate = request.replicate or 0  # None: a control, which is not trained
        member = build_member(self._config, self._problem, "base", weights, replicate)
        return self._worker.draw(replace(request, correction=member, seeds=seeds))
