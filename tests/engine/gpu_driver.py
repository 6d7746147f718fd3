"""Driver of trials and actors on two nodes of one logical GPU each; see ``test_gpu_places``.

``python gpu_driver.py ROOT FOLDER``. Ray assigns the GPUs that a node declares, even if they do
not exist; checked is which of them are visible to each process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # this process only: workers get the package from Ray

import pytest
import ray
from ray.cluster_utils import Cluster

import tests.engine.fake_trial
from dgray.config.study import StudyConfig
from dgray.engine import sampling_actors, tune
from dgray.engine.events import EngineStarted, Event
from dgray.engine.sampling_actors import SamplingActors
from dgray.errors import RunRefusedError
from dgray.plan.plan import Trial
from dgray.record.row import CheckpointResult, Resume, no_state
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine.fake_trial import fake_trial, make_plan, make_trial, prepare


def node_and_gpus() -> list[str]:
    """Return the node of this process and the GPUs that are visible to it."""
    return [
        ray.get_runtime_context().get_node_id(),
        os.environ.get("CUDA_VISIBLE_DEVICES", "not set"),
    ]


class Probe:
    """Substitute of a sampling actor."""

    def __init__(self, config: StudyConfig, artifacts: Mapping[str, bytes]) -> None:
        self._device = config.resources.device

    def where(self) -> list[str]:
        return node_and_gpus()


def probing_trial(
    trial: Trial,
    artifacts: Mapping[str, bytes],
    *,
    resume: Resume = no_state,
) -> Iterator[CheckpointResult]:
    """Run a fake trial whose rows state where it and its actors are."""
    sampling_actors._Sampler = Probe  # type: ignore[assignment,misc]
    with SamplingActors(trial.config, {}) as actors:
        seen = [node_and_gpus(), *ray.get([actor.where.remote() for actor in actors._actors])]
    for result in fake_trial(trial, artifacts, resume=resume):
        rows = [dataclasses.replace(row, host=json.dumps(seen)) for row in result.rows]
        yield dataclasses.replace(result, rows=tuple(rows))


def trials(count: int, **resources: Any) -> list[Trial]:
    """Return trials of images, which have actors."""
    config = StudyConfig.model_validate(
        {
            "name": "fake",
            "replicates": 2,
            "data": {"kind": "digits"},
            "base": {"kind": "trained"},
            "resources": resources,
        }
    )
    return [dataclasses.replace(make_trial(f"kl-{i}"), config=config) for i in range(count)]


def run(path: Path, trials: list[Trial]) -> tuple[int, list[list[list[str]]]]:
    """Return how many trials fit, and node and GPUs of each trial and of its actors."""
    plan, folder, events = make_plan(*trials), RunFolder(path), list[Event]()
    schedule = GridSchedule(plan.trials, folder)
    tune.run(schedule, folder, prepare, events.append, run_trial=probing_trial)
    assert folder.missing_rows(plan.trials) == 0, folder.rows().reason.unique()
    (started,) = [event for event in events if isinstance(event, EngineStarted)]
    rows = folder.rows().groupby("trial").first()
    return started.num_workers, [json.loads(host) for host in rows.host]


def main(path: Path) -> None:
    """Run the studies and check the GPUs that are visible."""
    # A part of a GPU: trials share it. 2 + 1 by the CPUs.
    count, seen = run(path / "shared", trials(6, gpus_per_trial=0.5))
    assert count == 3, count
    assert all(gpus == "0" for ((_, gpus),) in seen), seen

    # A trial and its actor have a GPU each, on either node, though no node has two.
    both = {"gpus_per_trial": 1.0, "gpus_per_actor": 1.0, "sampling_actors": 1}
    count, seen = run(path / "spread", trials(2, **both))
    assert count == 1, count
    for own, actor in seen:
        assert own[0] != actor[0], seen
        assert own[1] == actor[1] == "0", seen

    # The trial requests none, its actors for a part each.
    actors = {"gpus_per_actor": 0.5, "sampling_actors": 2}
    count, seen = run(path / "actors", trials(1, **actors))
    assert count == 1, count
    ((own, *theirs),) = seen
    assert own[1] in ("not set", ""), seen
    assert [gpus for _, gpus in theirs] == ["0", "0"], seen

    with pytest.raises(RunRefusedError, match="requests 1 CPU, 2 GPU and there is") as refused:
        run(path / "refused", trials(1, gpus_per_trial=2.0))
    for node in ("2 CPU, 1 GPU", "1 CPU, 1 GPU", "0 CPU, 0 GPU"):  # in Ray's order, which varies
        assert f"1 node of {node}" in str(refused.value)
    print("AS EXPECTED")


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(tests.engine.fake_trial)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=2, num_gpus=1)
        cluster.add_node(num_cpus=1, num_gpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address
        main(Path(sys.argv[2]))
    finally:
        ray.shutdown()
        cluster.shutdown()
