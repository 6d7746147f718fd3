"""Drivers that meet a full disk, a signal while artifacts are computed, or a Ray that dies."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dgray.files import PARTIAL_SUFFIX
from dgray.record.run_folder import RunFolder
from tests.torture.processes import family, is_running, kind_of

ROOT = Path(__file__).parents[2]
POINTS = """\
name: tiny
replicates: 2
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}
discriminator: {width: 8, depth: 2}
fit: {objective: [cross_entropy, kl], epochs: 4, checkpoints: [2, 4], batch_size: 64}
evaluate: {guidance_weight: 1, metrics: [path_kl], num_points: 20, num_samples: 20, num_bins: 4}
"""
TRAINED = POINTS.replace(
    "{kind: wrong_mixture, mean_scale: 1.2, num_generated: 64}",
    "{kind: trained, width: 8, depth: 1, steps: 10000000, num_real: 64, num_generated: 64}",
)


def start(
    folder: Path, study: str, *arguments: str, limit: int | None = None
) -> subprocess.Popen[str]:
    (folder / "tiny.yaml").write_text(study)
    return subprocess.Popen(
        [sys.executable, "-m", "dgray.study", "tiny.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if limit is None else lambda: _limit_files(limit),
    )


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def wait_for(driver: subprocess.Popen[str], text: str) -> None:
    assert driver.stdout is not None
    while text not in (line := driver.stdout.readline()):
        assert line, driver.communicate()[1]


def partial_files(run: Path) -> list[Path]:
    return [*run.rglob(f"*{PARTIAL_SUFFIX}")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        without = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        without("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.ray
@pytest.mark.long
def test_a_full_disk_ends_with_one_message_and_the_study_resumes_once_there_is_space(
    tmp_path: Path, small_disk: Path
) -> None:
    run = small_disk / "run"
    driver = start(tmp_path, POINTS, "--out", str(run))
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 1, errors
    (line,) = errors.splitlines()
    assert line.startswith(f"no space left: {run}"), line
    assert re.search(rf"the file system at {small_disk} has 0\.[01] of 0\.2 MiB free", line), line
    assert line.endswith(f"To resume: python -m dgray.study tiny.yaml --out {run}")
    assert not partial_files(run)
    for path in (run / "rows").glob("*.parquet"):
        assert len(RunFolder(run).rows()), path  # each is whole
    assert "failed" not in set(RunFolder(run).rows().status)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = start(tmp_path, POINTS, "--out", str(run), "--no-report")
    output, errors = again.communicate(timeout=300)
    assert again.returncode == 0, output + errors
    assert len(RunFolder(run).rows()) == 1 + 2 * 2 * 2


def test_files_that_may_not_grow_are_a_full_disk_to_the_local_engine(tmp_path: Path) -> None:
    driver = start(tmp_path, POINTS, "--engine", "local", limit=6_000)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("no space left: runs/tiny/rows/"), line
    assert "File too large" in line
    assert not partial_files(tmp_path)


@pytest.mark.parametrize(
    ("engine", "sent"),
    [
        ("local", signal.SIGINT),
        pytest.param("ray", signal.SIGTERM, marks=[pytest.mark.ray, pytest.mark.long]),
    ],
)
def test_a_signal_while_artifacts_are_made_ends_cleanly(
    engine: str, sent: signal.Signals, tmp_path: Path
) -> None:
    driver = start(tmp_path, TRAINED, "--engine", engine)
    run = tmp_path / "runs" / "tiny"
    deadline = time.monotonic() + 300
    while not [*run.glob("artifacts/*.state")]:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    driver.send_signal(sent)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 130, errors
    assert errors.splitlines() == [
        "stopping ... (once more stops at once)",
        "interrupted; finished work is kept. To resume: python -m dgray.study tiny.yaml "
        f"--engine {engine} --out runs/tiny",
    ]
    assert not partial_files(run)
    (session,) = json.loads((run / "provenance.json").read_text())["sessions"]
    assert session["outcome"] == "interrupted"


@pytest.mark.ray
@pytest.mark.long
def test_when_ray_dies_while_it_starts_the_driver_reports_it(tmp_path: Path) -> None:
    driver = start(tmp_path, POINTS)
    process = psutil.Process(driver.pid)
    deadline = time.monotonic() + 300
    while not (servers := [p for p in family(process) if kind_of(p) in ("raylet", "gcs")]):
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    servers[0].kill()
    _, errors = driver.communicate(timeout=300)
    assert driver.returncode == 1, errors
    (line,) = errors.splitlines()
    assert line.startswith("Ray"), line
    assert line.endswith(
        "finished work is kept. To resume: python -m dgray.study tiny.yaml --out runs/tiny"
    )


@pytest.mark.ray
@pytest.mark.long
def test_a_signal_while_ray_starts_ends_cleanly(tmp_path: Path) -> None:
    driver = start(tmp_path, POINTS)
    process = psutil.Process(driver.pid)
    deadline = time.monotonic() + 300
    # The first of Ray's servers; the raylet comes last, before the driver connects.
    while not [p for p in family(process) if kind_of(p) == "gcs"]:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    descendants = process.children(recursive=True)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 130, errors
    assert errors.splitlines()[-1] == (
        "interrupted; finished work is kept. To resume: python -m dgray.study tiny.yaml "
        "--out runs/tiny"
    )
    _, alive = psutil.wait_procs(descendants, timeout=30)
    assert not [*filter(is_running, alive)]


@pytest.mark.ray
@pytest.mark.long
def test_when_the_raylet_dies_the_driver_reports_it_and_leaves_nothing_running(
    tmp_path: Path,
) -> None:
    driver = start(tmp_path, POINTS, "--set", "fit.epochs=1000000", "fit.checkpoints=[2,1000000]")
    wait_for(driver, ", epoch 2")
    process = psutil.Process(driver.pid)
    descendants = process.children(recursive=True)
    (raylet,) = [p for p in descendants if kind_of(p) == "raylet"]
    raylet.kill()
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert errors.splitlines()[-1] == (
        "Ray's raylet ended (killed by SIGKILL); finished work is kept. To resume: "
        "python -m dgray.study tiny.yaml --set fit.epochs=1000000 "
        "'fit.checkpoints=[2,1000000]' --out runs/tiny"
    )
    record = json.loads((tmp_path / "runs" / "tiny" / "provenance.json").read_text())
    assert [session["outcome"] for session in record["sessions"]] == ["crashed"]
    _, alive = psutil.wait_procs(descendants, timeout=30)  # Ray by itself takes more than 60 s
    assert not [*filter(is_running, alive)]
