"""Processes of a driver end with it, unless it ends well; a message says how to resume."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.ray  # which is imported, not started
ROOT = Path(__file__).parents[2]
DRIVER = """
import os, signal, subprocess, sys
from dgray.engine.interrupt import interruptible
from dgray.engine.process_guard import also_children_of, send
from dgray.engine.ray_lifetime import guarded

with interruptible(), guarded("To resume: like this"):
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(1e5)"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={} if "unmarked" in sys.argv[1] else None,
    )
    print(child.pid, flush=True)
    if "unmarked" in sys.argv[1]:
        send(also_children_of(os.getpid()))
    if sys.argv[1].startswith("killed"):
        os.kill(os.getpid(), 9)
    if sys.argv[1] == "ended by a library":
        os._exit(1)
    if sys.argv[1] == "aborted by a library":  # as by a failed check in Ray's C++
        os.abort()
    if sys.argv[1] == "interrupted twice":
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
assert "DGRAY_DRIVER" not in os.environ
"""


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        ("killed", -9, "what was finished is kept. To resume: like this"),
        ("killed, unmarked child", -9, "what was finished is kept. To resume: like this"),
        ("ended by a library", 1, "what was finished is kept. To resume: like this"),
        ("aborted by a library", -6, "what was finished is kept. To resume: like this"),
        ("interrupted twice", 130, "stopped at once; what was finished is kept"),
        ("well", 0, ""),
    ],
)
def test_the_children_of_a_killed_driver_end(end: str, status: int, message: str) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, end],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert driver.returncode == status, driver.stderr
    assert len(driver.stderr.splitlines()) == bool(message)
    assert message in driver.stderr
    child = psutil.Process(int(driver.stdout))
    if end != "well":
        _, alive = psutil.wait_procs([child], timeout=60)
        assert not alive
    else:
        assert child.is_running()
        child.kill()
