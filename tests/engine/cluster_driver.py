"""Driver of a study on several nodes, of which one is killed and one joins; see ``test_nodes``.

``python cluster_driver.py ROOT FOLDER [NETWORK]``: the study runs on a Ray cluster and in this
process, in two run folders under FOLDER; exit status 0 if every metric is the same to the bit.
With NETWORK the nodes are network namespaces of that prefix, each with disks of its own
(``namespaces.py``), and this process is in the first of them; else raylets beside each other.

The order of events does not depend on timing. Every trained trial waits at a gate after its first
checkpoint, unless it was resumed. At the first such checkpoint its node is killed and a node is
added; the gate opens after the first checkpoint of the new node.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])  # this process only: workers get the package from Ray

import pandas as pd
import ray
from ray._raylet import GcsClient
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dgray.config.reading.load import load_study
from dgray.engine import local, tune
from dgray.engine.events import (
    CheckpointDone,
    EngineStarted,
    Event,
    PlacesChanged,
    TrialStarted,
)
from dgray.plan.plan import Plan, Trial, make_plan
from dgray.problem.shared import build_artifacts
from dgray.record.row import CheckpointResult, Resume, column_names, no_state
from dgray.record.run_folder import RunFolder
from dgray.search.schedule import GridSchedule
from tests.engine import namespaces

STUDY = """\
name: tiny
replicates: 2
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}
discriminator: {width: [16, 32], depth: 2}
fit: {objective: [cross_entropy, kl], epochs: 6, checkpoints: [2, 6], batch_size: 64}
evaluate:
  guidance_weight: [1.0, calibrated]
  sampler: [ode, sde]
  num_steps: 4
  metrics: [kl, path_kl, kl_sde, kl_sampler, memorisation]
  num_points: 10
  num_samples: 20
  num_bins: 4
  max_steps: 40
"""
GATE = "gate"
DEADLINE = 120.0  # seconds, for a node to start


class Nodes(Protocol):
    """Nodes of a cluster; the driver's own node has no CPU for trials."""

    address: str

    def add(self) -> None:
        """Start a node with one CPU."""
        ...

    def kill(self, node_id: str) -> None:
        """End a node abruptly, as by a power failure."""
        ...

    def end(self) -> None:
        """End what was started here."""
        ...


class Namespaces:
    """Nodes in network namespaces, with disks and shared memory of their own."""

    def __init__(self, prefix: str, hidden: Path, head: Sequence[str] = ()) -> None:
        """Start the head node in the first namespace, which is that of this process.

        Args:
            prefix: prefix of the namespaces' names.
            hidden: folder that the other nodes do not see.
            head: further options of ``ray start --head``.
        """
        self._prefix = prefix
        self._private = [hidden, Path("/tmp/ray"), Path("/dev/shm")]
        self._started: list[subprocess.Popen[bytes]] = []
        self._log = (hidden / "nodes.log").open("ab")  # a pipe would be held open by the nodes
        self.address = f"{namespaces.address(0)}:6379"
        own = ["--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false"]
        self._start([*own, *head])

    def add(self) -> None:
        self._start([f"--address={self.address}", "--num-cpus=1"])

    def kill(self, node_id: str) -> None:
        (node,) = [node for node in ray.nodes() if node["NodeID"] == node_id]
        index = int(node["NodeManagerAddress"].rpartition(".")[2]) - 1
        namespaces.kill_all(f"{self._prefix}{index}")

    def end(self) -> None:
        """The namespaces end with all that is in them."""

    def _start(self, options: list[str]) -> None:
        index = len(self._started)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        command += [f"--node-ip-address={namespaces.address(index)}", "--disable-usage-stats"]
        command += ["--object-store-memory=100000000"]
        if index:
            command = namespaces.inside(f"{self._prefix}{index}", command, self._private)
        self._started.append(subprocess.Popen(command, stdout=self._log, stderr=self._log))
        self._wait_for(index + 1)

    def _wait_for(self, count: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while self._num_started() < count:
            assert self._started[-1].poll() is None, "ray start ended"
            assert time.monotonic() < deadline, f"node {count} did not start"
            time.sleep(0.2)

    def _num_started(self) -> int:
        """Return the number of nodes that have joined, including dead ones."""
        try:
            return len(GcsClient(address=self.address).get_all_node_info())
        except ray.exceptions.RpcError:
            return 0


class Raylets:
    """Nodes on this machine that share its disk."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.address = self._cluster.address

    def add(self) -> None:
        self._cluster.add_node(num_cpus=1)

    def kill(self, node_id: str) -> None:
        (node,) = [n for n in self._cluster.worker_nodes if n.node_id == node_id]
        raylet = node.all_processes["raylet"][0].process.pid
        children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
        for pid in (raylet, *map(int, children)):
            os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        self._cluster.shutdown()


@ray.remote(num_cpus=0)
class Gate:
    """Actor for which trials wait."""

    def __init__(self) -> None:
        self._is_open = False

    def is_open(self) -> bool:
        return self._is_open

    def open(self) -> None:
        self._is_open = True


def gated_trial(
    trial: Trial,
    artifacts: Mapping[str, bytes],
    *,
    resume: Resume = no_state,
) -> Iterator[CheckpointResult]:
    """Run the real trial with rows that state its node and view of the disk, and wait."""
    import dgray
    from dgray.trial.run import run_trial

    node = ray.get_runtime_context().get_node_id()
    view = "sees" if Path(trial.config.description).exists() else "does not see"
    for result in run_trial(trial, artifacts, resume=resume):
        rows = [dataclasses.replace(r, host=node, device=view) for r in result.rows]
        assert "py_modules_files" in dgray.__file__, dgray.__file__  # shipped by Ray
        yield dataclasses.replace(result, rows=tuple(rows))
        if trial.is_trained and trial.epochs == trial.config.fit.checkpoint_epochs:
            while not ray.get(ray.get_actor(GATE, namespace=GATE).is_open.remote()):
                time.sleep(0.1)


class Observer:
    """Observer that kills and adds nodes while the study runs."""

    def __init__(self, nodes: Nodes, folder: RunFolder) -> None:
        self.nodes = nodes
        self.folder = folder
        self.events: list[Event] = []
        self.killed: tuple[str, str] | None = None  # node and trial
        self.first_nodes: set[str] = set()
        self.gate: Any = None

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case EngineStarted():
                own_node = NodeAffinitySchedulingStrategy(
                    ray.get_runtime_context().get_node_id(), soft=False
                )
                make = Gate.options(name=GATE, namespace=GATE, scheduling_strategy=own_node)
                self.gate = make.remote()
            case CheckpointDone(trial_id=trial, epoch=2) if not self.killed:
                node = self.host(trial, 2)
                self.first_nodes = {n["NodeID"] for n in ray.nodes()}
                self.nodes.kill(node)
                self.nodes.add()
                self.killed = (node, trial)
            case CheckpointDone(trial_id=trial, epoch=epoch):
                if self.host(trial, epoch) not in self.first_nodes:
                    ray.get(self.gate.open.remote())

    def host(self, trial: str, epoch: int) -> str:
        """Return the node on which a checkpoint was computed."""
        rows = self.folder.rows()
        (node,) = set(rows[(rows.trial == trial) & (rows.epoch == epoch)].host)
        return str(node)


def run(engine: Any, plan: Plan, folder: RunFolder, observe: Any, run_trial: Any = None) -> None:
    """Run a plan and check that it is complete."""
    prepare = partial(build_artifacts, plan.trials, folder)
    schedule = GridSchedule(plan.trials, folder)
    engine.run(schedule, folder, prepare, observe, run_trial=run_trial)
    assert folder.missing_rows(plan.trials) == 0, folder.rows().reason.unique()


def metrics(folder: RunFolder) -> pd.DataFrame:
    """Return what must not depend on the node."""
    rows = folder.rows()[column_names("identity", "metric")]
    keys = ["trial", "replicate", "epoch", "sampler", "is_calibrated"]
    return rows.sort_values(keys).reset_index(drop=True)


def main(path: Path, nodes: Nodes, *, shares_disk: bool) -> None:
    """Run the study on the cluster and in this process, and compare."""
    study = path / "tiny.yaml"
    study.write_text(f"{STUDY}description: {study}\n")
    plan = make_plan(load_study(study))
    run(local, plan, RunFolder(path / "local"), lambda event: None)
    nodes.add()
    nodes.add()
    folder = RunFolder(path / "cluster")
    observer = Observer(nodes, folder)
    os.environ["RAY_ADDRESS"] = nodes.address
    run(tune, plan, folder, observer, gated_trial)
    pd.testing.assert_frame_equal(
        metrics(folder), metrics(RunFolder(path / "local")), check_exact=True
    )
    rows = metrics(folder)
    # Of 4 trials, 2 replicates and 2 checkpoints; a calibrated weight may be that of the base.
    assert rows[rows.guidance_weight == 1].path_kl.nunique() == 16
    assert observer.killed is not None
    node, trial = observer.killed
    started = [e.trial_id for e in observer.events if isinstance(e, TrialStarted)]
    assert sorted(started) == sorted([*(t.id for t in plan.trials), trial]), started
    assert observer.host(trial, 2) == node
    assert observer.host(trial, 6) != node
    rows = folder.rows()
    assert set(rows.device) == {"sees" if shares_disk else "does not see"}
    assert rows.host.nunique() == 3, rows.host  # two at first, and the one that joined
    assert (
        EngineStarted(engine="ray", where=f"the Ray cluster at {nodes.address}", num_workers=2)
        in observer.events
    )
    assert not ray.is_initialized()
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.CRITICAL)
    alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
    assert alive > set(rows.host) - {node}, "the cluster was shut down"
    places = [e.num_places for e in observer.events if isinstance(e, PlacesChanged)]
    print("SAME BITS; places", places)


if __name__ == "__main__":
    path = Path(sys.argv[2])
    network = sys.argv[3] if len(sys.argv) > 3 else None
    where = Raylets() if network is None else Namespaces(network, path)
    try:
        main(path, where, shares_disk=network is None)
    finally:
        ray.shutdown()
        where.end()
