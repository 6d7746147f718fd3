"""Studies on several nodes, which are killed, join or are waited for, give the same rows."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.engine import namespaces

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def run(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> str:
    """Return the output of a command."""
    done = subprocess.run(
        command,
        env={n: v for n, v in os.environ.items() if n != "PYTHONPATH"} | dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_in_namespaces(driver: str, count: int, path: Path) -> str:
    """Run a driver in the first of ``count`` namespaces, with a secret Ray token."""
    prefix = f"dgray{os.getpid()}-"
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "HOME": str(path),
    }
    Path("/tmp/ray").mkdir(exist_ok=True)
    with namespaces.machines(prefix, count):
        command = [sys.executable, str(HERE / driver), str(ROOT), str(path), prefix]
        hidden = namespaces.inside(f"{prefix}0", command, [Path("/tmp/ray")])
        return run(hidden, environment, path)


def test_a_killed_node_and_a_new_one_change_no_bit(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "cluster_driver.py"), str(ROOT), str(tmp_path)]
    assert "SAME BITS" in run(command, {}, tmp_path)


@pytest.mark.namespaces
def test_nodes_that_share_neither_network_nor_disk_change_no_bit(tmp_path: Path) -> None:
    assert "SAME BITS" in run_in_namespaces("cluster_driver.py", 4, tmp_path)


@pytest.mark.namespaces
def test_a_study_waits_for_the_nodes_that_an_autoscaler_adds(tmp_path: Path) -> None:
    assert "GROWN" in run_in_namespaces("autoscaler_driver.py", 1, tmp_path)
