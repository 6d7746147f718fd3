"""Processes of a driver end with it, unless it ends well; a message states how to resume."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dgray.engine.interrupt import STOPPING

pytestmark = pytest.mark.ray  # which is imported, not started
ROOT = Path(__file__).parents[2]
DRIVER = """
import os, signal, subprocess, sys
from dgray.engine.interrupt import interruptible
from dgray.engine.process_guard import also_family_of, send
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
        send(also_family_of(os.getpid()))
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


RESUME = "finished work is kept. To resume: like this"
ENDS = {
    "killed": (-9, RESUME),
    "killed, unmarked child": (-9, RESUME),
    "ended by a library": (1, RESUME),
    "aborted by a library": (-6, RESUME),
    "interrupted twice": (130, f"{STOPPING}\nstopped at once; finished work is kept"),
    "well": (0, ""),
    "well, unmarked child": (0, ""),
}


@pytest.fixture(scope="module")
def drivers() -> dict[str, subprocess.Popen[str]]:
    """Drivers that end in each way, started together since the guard waits for seconds."""
    return {
        end: subprocess.Popen(
            [sys.executable, "-c", DRIVER, end],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for end in ENDS
    }


@pytest.mark.parametrize("end", ENDS)
def test_the_children_of_a_killed_driver_end(
    end: str, drivers: dict[str, subprocess.Popen[str]]
) -> None:
    status, message = ENDS[end]
    output, errors = drivers[end].communicate(timeout=120)
    assert drivers[end].returncode == status, errors
    assert len(errors.splitlines()) == len(message.splitlines())
    assert message in errors
    children = [process for process in psutil.process_iter() if process.pid == int(output)]
    if end == "well":
        assert children[0].is_running()
        children[0].kill()
    else:
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
