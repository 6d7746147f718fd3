"""A signal, or an address at which nothing answers, ends a command while Ray starts."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dgray.engine.interrupt import STOPPING

pytestmark = pytest.mark.ray  # which is imported, not started
ROOT = Path(__file__).parents[2]
DRIVER = """
import sys, time
from dgray.cli.engine_command import engine_exit_status
from dgray.engine import ray_session
from dgray.engine.ray_lifetime import guarded

def hang(**options):
    print("starting", flush=True)
    time.sleep(1e5)

def command():
    with guarded("To resume: like this"), ray_session.ray_session():
        return 0

if sys.argv[1] == "start":
    ray_session.ray.init = hang
sys.exit(engine_exit_status(command, interrupted="interrupted"))
"""


def driver(mode: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, mode],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **variables},  # also without a home
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sigterm_is_obeyed_while_ray_starts(tmp_path: Path) -> None:
    process = driver("start", TMPDIR=str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "starting\n", process.communicate()
    assert len([*tmp_path.iterdir()]) == 1
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 5
    assert (process.returncode, errors) == (130, f"{STOPPING}\ninterrupted\n")
    deadline = time.monotonic() + 30
    while [*tmp_path.iterdir()]:  # the guard removes Ray's folder
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_address_at_which_nothing_answers_is_refused_in_one_line() -> None:
    with socket.socket() as silent, socket.socket() as closed:
        address = "127.0.0.2"  # Ray replaces 127.0.0.1 by the address of the node
        closed.bind((address, 0))
        silent.bind((address, 0))
        silent.listen()
        drivers = {
            f"{address}:{closed.getsockname()[1]}": "Connection refused",
            f"{address}:{silent.getsockname()[1]}": "no answer for 4 s",
            "nonsense": "Invalid address format",
        }
        processes = [driver("connect", RAY_ADDRESS=place) for place in drivers]
        for process, reason in zip(processes, drivers.values(), strict=True):
            output, errors = process.communicate(timeout=60)
            assert (process.returncode, output) == (1, "")
            (line,) = errors.splitlines()
            assert "cannot connect to Ray at RAY_ADDRESS=" in line
            assert reason in line
