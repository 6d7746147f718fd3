"""Content of provenance.json."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import dgray
from dgray.config.reading.load import load_study
from dgray.plan.plan import Plan, make_plan
from dgray.record import provenance
from dgray.record.provenance import Session
from dgray.record.run_folder import RunFolder


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "{name: tiny, seed: 7, replicates: 2, data: {kind: mixture, name: ring8}, "
        "base: {kind: wrong_mixture}, resources: {cpus_per_trial: 2}}"
    )
    return make_plan(load_study(path))


def record(folder: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder.path / "provenance.json").read_text())
    return content


def test_a_session_is_recorded_from_its_start(plan: Plan, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    session = Session(folder.files, plan, ["a study.yaml", "--set", "seed=7"], "ray")
    recorded = record(folder)
    assert {
        name: recorded[name] for name in ("study", "seed", "replicates", "threads_per_trial")
    } == {
        "study": "tiny",
        "seed": 7,
        "replicates": 2,
        "threads_per_trial": 2,
    }
    (entry,) = recorded["sessions"]
    assert entry["outcome"] == "running"
    assert entry["finished_at"] is None
    assert entry["command"] == "python -m dgray.study 'a study.yaml' --set seed=7"
    assert entry["versions"]["dgray"] == dgray.__version__
    for package in ("torch", "ray", "numpy"):
        assert entry["versions"][package] == version(package)
    assert entry["machine"]["cpu"]
    assert entry["machine"]["num_cpus"] >= 1
    session.engine_started(where="a cluster", num_workers=3)
    assert record(folder)["sessions"][0]["num_workers"] == 3
    assert (entry["worker_losses"], entry["retries"]) == ({}, 0)
    for task, times in (("kl-1", 1), ("kl-2, sampling", 2), ("kl-1", 1)):
        session.worker_lost(task, times)
    (entry,) = record(folder)["sessions"]
    assert entry["worker_losses"] == {"kl-1": 2, "kl-2, sampling": 2}
    assert entry["retries"] == 4


def test_every_session_is_kept_with_its_failures(plan: Plan, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    Session(folder.files, plan, [], "ray").end("interrupted", {})
    Session(folder.files, plan, [], "local").end("incomplete", {"kl-1": "ValueError: no"})
    Session(folder.files, plan, [], "local").end("complete", {})
    sessions = record(folder)["sessions"]
    assert [(s["engine"], s["outcome"]) for s in sessions] == [
        ("ray", "interrupted"),
        ("local", "incomplete"),
        ("local", "complete"),
    ]
    assert sessions[1]["failures"] == {"kl-1": "ValueError: no"}
    assert all(s["started_at"] <= s["finished_at"] for s in sessions)


def test_no_environment_variable_is_recorded(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-is-my-secret")
    folder = RunFolder(tmp_path / "run")
    Session(folder.files, plan, [], "local").end("complete", {})
    text = (folder.path / "provenance.json").read_text()
    assert "hunter2" not in text
    assert "SECRET_TOKEN" not in text


def test_credentials_in_addresses_are_removed(plan: Plan, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    arguments = ["a.yaml", "--out", "s3://me:hunter2@bucket/run"]
    session = Session(folder.files, plan, arguments, "ray")
    assert "hunter2" not in (folder.path / "provenance.json").read_text()
    session.engine_started(where="the Ray cluster at http://me:hunter2@10.0.0.1", num_workers=1)
    session.end("incomplete", {"kl-1": "OSError: https://host/a?X-Amz-Signature=hunter2 is gone"})
    assert "hunter2" not in (folder.path / "provenance.json").read_text()
    (entry,) = record(folder)["sessions"]
    assert entry["command"] == "python -m dgray.study a.yaml --out s3://***@bucket/run"
    assert entry["where"] == "the Ray cluster at http://***@10.0.0.1"
    assert entry["failures"] == {"kl-1": "OSError: https://host/a?X-Amz-Signature=*** is gone"}


def test_commit_of_a_checkout_and_whether_it_has_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "checkout" / "dgray" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    monkeypatch.setattr(provenance.dgray, "__file__", str(package))
    assert provenance._git() is None

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path / "checkout", capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    assert provenance._git() == {"commit": git("rev-parse", "HEAD"), "is_dirty": False}
    package.write_text("changed")
    assert provenance._git() == {"commit": git("rev-parse", "HEAD"), "is_dirty": True}
