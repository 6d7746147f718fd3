"""Workers of ``dgray.sample``: actors that draw ranges of seeds, each with a copy of the model.

Ray restarts an actor that died and repeats its call; a sample is a function of its seed, so the
result is the same. Only the actors import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayTaskError

from dgray.engine.nodes import Places
from dgray.engine.ray_lifetime import guarded
from dgray.engine.ray_session import ray_session
from dgray.engine.sampling_actors import in_order

if TYPE_CHECKING:
    from torch import Tensor

    from dgray.trial.guided_model import Recipe

MAX_RESTARTS = 3  # of one actor, after which its error is raised


def draw_on_workers(
    recipe: Recipe, ranges: Sequence[range], *, workers: int, gpus: float, device: str
) -> Iterator[tuple[range, Tensor]]:
    """Yield each range of seeds with its samples, float64 of shape (n, d) on the CPU, in order.

    Args:
        recipe: recipe of the model.
        ranges: ranges of seeds.
        workers: number of actors.
        gpus: GPUs of each actor; may be a fraction.
        device: device of the model in each actor.

    Raises:
        RunRefusedError: no node can hold a worker.
    """
    with guarded("The same command draws the missing samples"), ray_session():
        Places([{"CPU": 1.0} | ({"GPU": gpus} if gpus else {})]).refuse_impossible(
            subject="a worker", fix="lower --gpus-per-worker"
        )
        shared = ray.put(recipe)
        make = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=MAX_RESTARTS, max_task_retries=MAX_RESTARTS
        )(_Drawer)
        actors: list[Any] = [make.remote(shared, device) for _ in range(min(workers, len(ranges)))]
        try:
            drawn = in_order(actors, lambda actor, seeds: actor.draw.remote(seeds), ranges)
            yield from zip(ranges, drawn, strict=True)
        except RayTaskError as error:
            raise error.cause from None
        finally:
            for actor in actors:
                ray.kill(actor)


class _Drawer:
    """Actor with one model."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        import torch

        from dgray.problem.compute_process import prepare_process

        prepare_process(1)  # an actor has one CPU
        self._model: Any = recipe.build(torch.device(device))

    def draw(self, seeds: range) -> Tensor:
        """Return the samples of these seeds."""
        samples: Tensor = self._model.draw(seeds)
        return samples.cpu()
