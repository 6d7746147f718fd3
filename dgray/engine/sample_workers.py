"""``dgray.sample`` on several workers: actors that draw ranges of seeds, each with one model.

Ray starts one that died anew and makes its call again; a sample is a function of its seed, so
nobody notices. Knows Ray; torch only in the actors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray

from dgray.engine.nodes import Places
from dgray.engine.ray_session import ray_session
from dgray.engine.sampling_actors import in_order

if TYPE_CHECKING:
    from torch import Tensor

    from dgray.trial.guided_model import Recipe

MAX_RESTARTS = 3  # of one actor, after which the reason is raised


def draw_on_workers(
    recipe: Recipe, ranges: Sequence[range], *, workers: int, gpus: float, device: str
) -> Iterator[tuple[range, Tensor]]:
    """Samples of ranges of seeds in order, float64 (n, d), on the CPU.

    Args:
        recipe: of the model.
        ranges: of seeds.
        workers: how many actors.
        gpus: of each; may be a fraction.
        device: of the model in each.

    Raises:
        RunRefusedError: no node can hold a worker.
    """
    with ray_session():
        Places([{"CPU": 1.0} | ({"GPU": gpus} if gpus else {})]).refuse_impossible(
            what="a worker", fix="lower --gpus-per-worker"
        )
        shared = ray.put(recipe)
        make = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=MAX_RESTARTS, max_task_retries=MAX_RESTARTS
        )(_Drawer)
        actors: list[Any] = [make.remote(shared, device) for _ in range(min(workers, len(ranges)))]
        try:
            drawn = in_order(actors, lambda actor, seeds: actor.draw.remote(seeds), ranges)
            yield from zip(ranges, drawn, strict=True)
        finally:
            for actor in actors:
                ray.kill(actor)


class _Drawer:
    """One actor."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        import torch

        torch.set_num_threads(1)  # the CPU it asked for
        self._model: Any = recipe.build(torch.device(device))

    def draw(self, seeds: range) -> Tensor:
        """Samples of these seeds."""
        samples: Tensor = self._model.draw(seeds)
        return samples.cpu()
