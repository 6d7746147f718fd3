"""CPUs of a process: by affinity, quotas of both versions of control groups, and SLURM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dgray.engine.granted_cpus import granted_cpus

VERSION_2 = "0::/user.slice/job\n"
VERSION_1 = "5:cpuset:/\n2:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)


def test_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert granted_cpus(tmp_path) == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert granted_cpus(tmp_path) == 1
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    assert granted_cpus(tmp_path) == os.cpu_count()


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        (VERSION_2, {"user.slice/job/cpu.max": "400000 100000\n"}, 4),
        (VERSION_2, {"user.slice/cpu.max": "150000 100000\n", "cpu.max": "max 100000\n"}, 1),
        (VERSION_2, {"cpu.max": "20000 100000\n"}, 1),
        (VERSION_2, {"user.slice/job/cpu.max": "max 100000\n"}, 16),
        (VERSION_2, {"user.slice/job/cpu.max": "nonsense"}, 16),
        (VERSION_1, {"cpu,cpuacct/docker/abc/cpu.cfs": "300000 100000"}, 3),
        (VERSION_1, {"cpu/cpu.cfs": "250000 50000"}, 5),  # in a container
        (VERSION_1, {"cpu/cpu.cfs": "-1 100000"}, 16),
        (VERSION_1, {"unified/cpu.max": "700000 100000"}, 7),
    ],
)
def test_quotas(groups: str, files: dict[str, str], cpus: int, tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "cpu.cfs":
            quota, period = text.split()
            path.with_name("cpu.cfs_quota_us").write_text(quota)
            path.with_name("cpu.cfs_period_us").write_text(period)
        else:
            path.write_text(text)
    assert granted_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("variables", "cpus"),
    [
        ({"SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_CPUS_ON_NODE": "16(x2)", "SLURM_CPUS_PER_TASK": "0"}, 16),
    ],
)
def test_slurm(
    variables: dict[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert granted_cpus(tmp_path) == cpus
