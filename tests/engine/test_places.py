"""Requests that are refused, waited for or made, by present nodes and those of an autoscaler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgray.engine import nodes
from dgray.engine.events import Event, PlacesChanged
from dgray.engine.nodes import NodeWatch, Places
from dgray.errors import RunRefusedError

HEAD = {"CPU": 2.0, "node:__internal_head__": 1.0}
GPU_NODE = {"CPU": 8.0, "GPU": 1.0}
WITH_GPU = [{"CPU": 4.0, "GPU": 1.0}]
LAUNCHED = """\
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 2}}
  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 8}
  off: {resources: {CPU: 8, GPU: 4}, max_workers: 0}
"""


class FakeCluster:
    """Substitute of Ray's list of nodes."""

    def __init__(self) -> None:
        self.alive: list[dict[str, float]] = [HEAD]

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}
        return [dead, *({"Alive": True, "Resources": node} for node in self.alive)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCluster:
    fake = FakeCluster()
    monkeypatch.setattr(nodes.ray, "nodes", fake.nodes)
    monkeypatch.setattr(nodes, "LAUNCHER_FILE", tmp_path / "bootstrap.yaml")
    monkeypatch.delenv("KUBERAY_GEN_RAY_START_CMD", raising=False)
    return fake


def launch(tmp_path: Path, text: str = LAUNCHED) -> None:
    (tmp_path / "bootstrap.yaml").write_text(text)


def test_without_an_autoscaler_an_impossible_request_is_refused(cluster: FakeCluster) -> None:
    cluster.alive = [HEAD, GPU_NODE, GPU_NODE]
    Places(WITH_GPU).refuse_impossible()
    with pytest.raises(RunRefusedError) as refused:
        Places([{"CPU": 1.0, "GPU": 2.0}]).refuse_impossible()
    assert str(refused.value) == (
        "resources: a trial requests 1 CPU, 2 GPU and there is 1 node of 2 CPU, 0 GPU and 2 nodes "
        "of 8 CPU, 1 GPU; each part must fit on one node, so lower resources.cpus_per_trial or "
        "gpus_per_trial (--set), or add such a node"
    )
    with pytest.raises(
        RunRefusedError, match=r"a worker requests 1 CPU, 2 GPU .* so lower that, or"
    ):
        Places([{"CPU": 1.0, "GPU": 2.0}]).refuse_impossible(subject="a worker", fix="lower that")
    with pytest.raises(
        RunRefusedError, match="and, for each of its 3 sampling actors, 1 CPU, 1 GPU"
    ):
        Places([{"CPU": 1.0}, *[{"CPU": 1.0, "GPU": 1.0}] * 3]).refuse_impossible()


def test_with_known_kinds_of_nodes_only_what_they_hold_is_waited_for(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    launch(tmp_path)
    places = Places(WITH_GPU)
    places.refuse_impossible()
    assert places.num_fitting() == 0
    assert places.waits_for() == (
        "waiting for the autoscaler: a trial requests 4 CPU, 1 GPU and there is 1 node of 2 CPU, "
        "0 GPU; the autoscaler may add gpu (8 CPU, 1 GPU; at most 3)"
    )
    with pytest.raises(
        RunRefusedError, match=r"the autoscaler may add gpu \(8 CPU, 1 GPU; at most 3"
    ):
        Places([{"CPU": 1.0, "GPU": 4.0}]).refuse_impossible()  # that kind is switched off


def test_as_much_is_asked_for_as_the_grown_cluster_holds(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    launch(tmp_path)
    places = Places(WITH_GPU)
    assert places.num_requested() == 3  # the cluster's limit, below that of the kind
    cluster.alive += [GPU_NODE] * 2
    assert (places.num_fitting(), places.num_requested()) == (2, 3)
    cluster.alive += [GPU_NODE] * 2  # one joined by hand
    assert places.num_requested() == 4
    assert Places(WITH_GPU, limit=2).num_requested() == 2
    assert Places(WITH_GPU, limit=2).num_fitting() == 2


@pytest.mark.parametrize("case", ["kuberay", "no resources"])
def test_with_unknown_kinds_of_nodes_demand_grows_with_the_cluster(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case == "kuberay":
        command = "ray start --head --no-monitor --port=6379"
        monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", command)
    else:
        launch(tmp_path, "max_workers: 2\navailable_node_types: {gpu: {resources: {}}}\n")
    places = Places(WITH_GPU)
    places.refuse_impossible()
    assert "waiting for the autoscaler: a trial requests 4 CPU, 1 GPU" in places.waits_for()
    assert places.num_requested() == 1
    cluster.alive += [GPU_NODE] * 3
    assert places.num_requested() == 6


def test_a_kuberay_head_with_its_own_monitor_has_no_autoscaler(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", "ray start --head --port=6379")
    with pytest.raises(RunRefusedError, match="there is 1 node of 2 CPU, 0 GPU"):
        Places(WITH_GPU).refuse_impossible()
    assert Places([{"CPU": 1.0}]).num_requested() == 2


def test_a_change_of_the_nodes_is_reported_once(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(nodes.time, "monotonic", lambda: clock[0])
    events: list[Event] = []
    watch = NodeWatch(Places(WITH_GPU), 0, events.append)

    def look() -> list[Event]:
        events.clear()
        for _ in range(3):
            clock[0] += 1.0
            watch.on_step_begin(0, [])
        return list(events)

    (wait,) = look()
    assert isinstance(wait, PlacesChanged)
    assert wait.num_places == 0
    assert wait.waits_for is not None
    assert wait.waits_for.startswith("waiting for a node to join: a trial requests 4 CPU, 1 GPU")
    cluster.alive += [GPU_NODE] * 2
    assert look() == [PlacesChanged(num_places=2, waits_for=None)]
    assert look() == []
    cluster.alive = [HEAD]
    assert look() == [wait]
