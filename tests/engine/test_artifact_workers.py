"""Artifacts made on Ray's workers: the same bytes, though a worker dies."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from dgray.engine.artifact_workers import ArtifactWorkers
from dgray.engine.events import Event, WorkerLost
from dgray.engine.ray_internals import server_processes
from dgray.errors import EngineError
from dgray.problem import artifact_table
from dgray.problem.artifact_table import Job
from dgray.problem.shared import build_artifacts
from tests.engine.mortal import Mortal, dying, endless, failing
from tests.problem.test_shared import trials_of
from tests.trial.test_run import Memory

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_running")]


def test_workers_make_the_same_bytes_and_a_lost_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(tmp_path, "base.steps=300")
    expected = build_artifacts(trials, Memory())
    artifacts = [
        replace(artifact, compute=Mortal()) if artifact.role == "base" else artifact
        for artifact in artifact_table.ARTIFACTS
    ]
    monkeypatch.setattr(artifact_table, "ARTIFACTS", artifacts)
    events: list[Event] = []
    workers = ArtifactWorkers({"CPU": 1.0}, max_failures=1, observe=events.append)
    with contextlib.closing(workers):
        assert build_artifacts(trials, Memory(), workers) == expected
    assert events == [WorkerLost(task="base")]


def test_workers_that_keep_dying_end_the_study_with_the_reason(tmp_path: Path) -> None:
    job = Job("base-0", dying, trials_of(tmp_path)[0].config)
    workers = ArtifactWorkers({"CPU": 1.0}, max_failures=1)
    with pytest.raises(EngineError, match=r"^its workers were lost 2 times; the last reason: "):
        list(workers.make([job], {}, lambda key: None))


def test_a_failure_ends_the_other_computations_and_leaves_ray_running(tmp_path: Path) -> None:
    config = trials_of(tmp_path)[0].config
    jobs = [Job("endless-0", endless, config), Job("failing-1", failing, config)]
    cpus = ray.cluster_resources()["CPU"]
    workers = ArtifactWorkers({"CPU": cpus / 2}, max_failures=0)
    for _ in range(2):
        with pytest.raises(ValueError, match="this computation fails"):
            list(workers.make(jobs, {}, lambda key: None))
        deadline = time.monotonic() + 60
        while ray.available_resources().get("CPU") != cpus:
            assert time.monotonic() < deadline, "the endless computation goes on"
            time.sleep(0.1)
    assert [process.poll() for process in server_processes().values()] == [None, None]
