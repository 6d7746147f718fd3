"""Artifacts made on Ray's workers: the same bytes, though a worker dies."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from dgray.engine.events import Event, WorkerLost
from dgray.engine.ray_internals import server_processes
from dgray.errors import ArtifactError
from dgray.plan.plan import Trial
from dgray.problem import make_shared
from dgray.problem.make_shared import Job
from dgray.problem.shared import build_artifacts
from tests.engine.mortal import Mortal, endless, failing
from tests.problem.test_shared import trials_of
from tests.trial.test_run import Memory

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_running")]


def mortal_trials(folder: Path, monkeypatch: pytest.MonkeyPatch, always: bool) -> list[Trial]:
    changed = [
        replace(artifact, compute=Mortal(always)) if artifact.role == "base" else artifact
        for artifact in make_shared.ARTIFACTS
    ]
    monkeypatch.setattr(make_shared, "ARTIFACTS", changed)
    return list(trials_of(folder, "base.steps=300"))


def test_workers_make_the_same_bytes_and_a_lost_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgray.engine.artifact_workers import ArtifactWorkers

    here = build_artifacts(trials_of(tmp_path, "base.steps=300"), Memory())
    events: list[Event] = []
    workers = ArtifactWorkers({"CPU": 1.0}, max_failures=1, observe=events.append)
    trials = mortal_trials(tmp_path, monkeypatch, always=False)
    assert build_artifacts(trials, Memory(), workers) == here
    assert events == [WorkerLost(what="base")]


def test_workers_that_keep_dying_end_the_study_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgray.engine.artifact_workers import ArtifactWorkers

    trials = mortal_trials(tmp_path, monkeypatch, always=True)
    with pytest.raises(ArtifactError, match=r"base cannot be made: its workers were lost 2 times"):
        build_artifacts(trials, Memory(), ArtifactWorkers({"CPU": 1.0}, max_failures=1))


def test_an_error_of_a_computation_reaches_the_user(tmp_path: Path) -> None:
    from dgray.engine.artifact_workers import ArtifactWorkers

    trials = trials_of(tmp_path, "evaluate.features=no_such_module:features")
    with pytest.raises(ArtifactError, match=r"^features cannot be made: .*no_such_module"):
        build_artifacts(trials, Memory(), ArtifactWorkers({"CPU": 1.0}, max_failures=1))


def test_a_failure_ends_the_other_computations_and_leaves_ray_running(tmp_path: Path) -> None:
    from dgray.engine.artifact_workers import ArtifactWorkers

    config = trials_of(tmp_path)[0].config
    jobs = [Job("endless-0", endless, config), Job("failing-1", failing, config)]
    cpus = ray.cluster_resources()["CPU"]
    request = {"CPU": cpus / 2}
    for _ in range(3):
        with pytest.raises(ValueError, match="this computation fails"):
            list(ArtifactWorkers(request, max_failures=0).make(jobs, {}, lambda key: None))
        deadline = time.monotonic() + 60
        while ray.available_resources().get("CPU") != cpus:
            assert time.monotonic() < deadline, "the endless computation goes on"
            time.sleep(0.1)
    assert [process.poll() for process in server_processes().values()] == [None, None]
