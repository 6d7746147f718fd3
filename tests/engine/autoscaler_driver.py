"""Driver of a study on a cluster without workers, which an autoscaler adds; see ``test_nodes``.

``python autoscaler_driver.py ROOT FOLDER NETWORK``, in the first namespace of NETWORK and with
FOLDER as home: the autoscaler is Ray's own with its fake provider, which starts raylets in the
place of machines, and its configuration is where the cluster launcher puts it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # this process only: workers get the package from Ray

import pytest
import ray

import tests.engine.fake_trial
from dgray.engine import tune
from dgray.engine.events import Event, PlacesChanged
from dgray.errors import RunRefusedError
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine.cluster_driver import Namespaces
from tests.engine.fake_trial import fake_trial, make_plan, make_trial, prepare

CONFIG: dict[str, Any] = {
    "cluster_name": "fake",
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "provider": {
        "type": "fake_multinode",
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {
            "resources": {"CPU": 1, "GPU": 1},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "head_node": {},
    "worker_nodes": {},
}


def trial(name: str, gpus: float) -> Trial:
    plain = make_trial(name)
    resources = plain.config.resources.model_copy(update={"gpus_per_trial": gpus})
    config = plain.config.model_copy(update={"resources": resources})
    return dataclasses.replace(plain, config=config)


def run(folder: RunFolder, *trials: Trial) -> list[Event]:
    events: list[Event] = []
    schedule = GridSchedule(make_plan(*trials).trials, folder)
    tune.run(schedule, folder, prepare, events.append, run_trial=fake_trial)
    assert folder.missing_rows(trials) == 0, folder.rows().reason.unique()
    return events


def main(path: Path) -> None:
    """Run the studies and check what is refused, waited for and added."""
    with pytest.raises(
        RunRefusedError, match=r"the autoscaler may add gpu \(1 CPU, 1 GPU; at most 2"
    ):
        run(RunFolder(path / "refused"), trial("kl", 2.0))
    events = run(RunFolder(path / "run"), *(trial(f"kl-{i}", 1.0) for i in range(4)))
    waits, *later = [event for event in events if isinstance(event, PlacesChanged)]
    assert events[0] is waits
    assert waits.waits_for == (
        "waiting for the autoscaler: a trial requests 1 CPU, 1 GPU and there is 1 node of 0 CPU, "
        "0 GPU; the autoscaler may add gpu (1 CPU, 1 GPU; at most 2)"
    )
    assert later[0].num_places == 0  # the engine has started, and waits still
    assert max(event.num_places for event in later) >= 1
    print("GROWN", [event.num_places for event in later])


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(tests.engine.fake_trial)
    home = Path(sys.argv[2])
    launched = home / "ray_bootstrap_config.yaml"
    launched.write_text(json.dumps(CONFIG))
    os.environ |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    nodes = Namespaces(sys.argv[3], home, [f"--autoscaling-config={launched}"])
    os.environ["RAY_ADDRESS"] = nodes.address
    try:
        main(home)
    finally:
        ray.shutdown()
