"""What a driver started ends with it if it is killed, and is left alone if it ends well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.ray  # which is imported, not started
ROOT = Path(__file__).parents[2]
DRIVER = """
import os, subprocess, sys
from dgray.engine.own_processes import no_orphans

with no_orphans():
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(1e5)"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    print(child.pid, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), 9)
assert "DGRAY_DRIVER" not in os.environ
"""


@pytest.mark.parametrize("end", ["killed", "well"])
def test_the_children_of_a_killed_driver_end(end: str) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, end],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert driver.returncode == (-9 if end == "killed" else 0), driver.stderr
    child = psutil.Process(int(driver.stdout))
    if end == "killed":
        _, alive = psutil.wait_procs([child], timeout=60)
        assert not alive
    else:
        assert child.is_running()
        child.kill()
