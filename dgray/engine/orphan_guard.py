"""Ends processes that a driver left behind: a script, started by the driver, that outlives it.

    python orphan_guard.py PID:START ...

Waits until its standard input ends. If the driver said "done" before, that is all; else it died,
and each process that is still the one meant (PID and START, its start in ticks since boot) and
does not end by itself is killed. Knows the standard library only: it is to start in no time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

DONE = b"done"
_GRACE_SECONDS = 3.0  # in which they may end by themselves, and tidy up


def start_of(pid: int) -> str | None:
    """When a process began, in ticks since boot; None: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return None if fields[0] in "ZX" else fields[19]


def main() -> None:
    """See above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: meant for the driver
    if sys.stdin.buffer.read().strip() == DONE:
        return
    meant = [argument.split(":") for argument in sys.argv[1:]]
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        if not any(start_of(int(pid)) == start for pid, start in meant):
            return
        time.sleep(0.1)
    for pid, start in meant:
        if start_of(int(pid)) == start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main()
