"""Number of trials that fit; cases marked "seen" were observed with Ray 2.60."""

from __future__ import annotations

import pytest

from dgray.engine.capacity import num_groups

CPU_NODE = {"CPU": 8.0, "memory": 1e9}
GPU_NODE = {"CPU": 4.0, "GPU": 1.0}
TWO_GPUS = {"CPU": 8.0, "GPU": 2.0}


def own(cpus: float, gpus: float = 0.0) -> dict[str, float]:
    return {"CPU": cpus} | ({"GPU": gpus} if gpus else {})


@pytest.mark.parametrize(
    ("nodes", "bundle", "count"),
    [
        ([CPU_NODE, GPU_NODE], own(2), 4 + 2),
        ([CPU_NODE], own(9), 0),
        ([CPU_NODE, CPU_NODE], own(9), 0),  # a bundle lies on one node
        ([GPU_NODE], own(1, 0.5), 2),
        ([CPU_NODE, GPU_NODE], own(1, 1), 1),
        ([GPU_NODE, GPU_NODE], own(1, 2), 0),
        ([TWO_GPUS], own(1, 2), 1),
        ([TWO_GPUS], own(1, 0.5), 4),
        ([TWO_GPUS], own(1, 0.4), 4),  # seen: the fifth waits for ever, though 0.4 GPUs are free
        ([TWO_GPUS], own(1, 0.3), 6),  # seen
        ([{"CPU": 99.0, "GPU": 1.0}], own(1, 0.1), 10),  # sums of 0.1 are not exact
        ([{"CPU": 0.0}], own(1), 0),
        ([], own(1), 0),
    ],
)
def test_trials_without_actors(
    nodes: list[dict[str, float]], bundle: dict[str, float], count: int
) -> None:
    assert num_groups(nodes, [bundle]) == count


@pytest.mark.parametrize(
    ("nodes", "own_part", "actors", "count"),
    [
        ([TWO_GPUS], own(1, 1), [own(1, 1)], 1),
        ([GPU_NODE], own(1, 0.5), [own(1, 0.5)], 1),
        ([GPU_NODE], own(1), [own(1, 0.25)] * 3, 1),  # 4 CPUs
        # A group may span nodes: no single node here has the sum of its requests.
        ([GPU_NODE, GPU_NODE], own(1, 1), [own(1, 1)], 1),
        ([CPU_NODE, GPU_NODE, GPU_NODE], own(8), [own(4, 1)] * 2, 1),
        ([CPU_NODE, GPU_NODE, GPU_NODE], own(8), [own(4, 1)] * 3, 0),
        ([CPU_NODE] + [GPU_NODE] * 4, own(4), [own(4, 1)] * 2, 2),
        ([TWO_GPUS, GPU_NODE], own(1, 1), [own(1, 2)], 1),  # its own part must leave the two alone
        # A fraction is a part of one GPU: 0.6 of each is taken, and 0.4 + 0.4 is no 0.6.
        ([TWO_GPUS], own(1, 0.6), [own(1, 0.6)], 1),
        ([TWO_GPUS], own(1, 0.6), [own(1, 0.6)] * 2, 0),
    ],
)
def test_trials_with_actors(
    nodes: list[dict[str, float]],
    own_part: dict[str, float],
    actors: list[dict[str, float]],
    count: int,
) -> None:
    assert num_groups(nodes, [own_part, *actors]) == count
