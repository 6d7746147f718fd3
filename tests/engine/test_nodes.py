"""Studies over several nodes, of which one is killed and one joins: the rows of one process."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.engine import namespaces

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("cluster_driver.py")


def assert_same_bits(command: Sequence[object], environment: Mapping[str, str], cwd: Path) -> None:
    done = subprocess.run(
        [*map(str, command)],
        env={n: v for n, v in os.environ.items() if n != "PYTHONPATH"} | dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SAME BITS" in done.stdout


def test_a_killed_node_and_a_new_one_change_no_bit(tmp_path: Path) -> None:
    assert_same_bits([sys.executable, DRIVER, ROOT, tmp_path], {}, tmp_path)


@pytest.mark.namespaces
def test_nodes_that_share_neither_network_nor_disk_change_no_bit(tmp_path: Path) -> None:
    prefix = f"dgray{os.getpid()}-"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    Path("/tmp/ray").mkdir(exist_ok=True)
    with namespaces.machines(prefix, 4):
        driver = [sys.executable, DRIVER, ROOT, tmp_path, prefix]
        command = namespaces.inside(f"{prefix}0", [*map(str, driver)], [Path("/tmp/ray")])
        assert_same_bits(command, token, tmp_path)
