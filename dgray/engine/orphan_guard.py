"""Ends processes that a driver left behind: a script, started by the driver, that outlives it.

    python orphan_guard.py NAME=VALUE

Waits until its standard input ends. If the driver said "done" before, that is all; else it died,
and every process that was born with this variable in its environment and does not end by itself
is killed. Knows the standard library only: it is to start in no time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

DONE = b"done"
_GRACE_SECONDS = 3.0  # in which they may end by themselves, and tidy up


def born_with(variable: str) -> Iterator[int]:
    """Processes with this variable, as ``NAME=VALUE``, except this one and the dead."""
    wanted = b"\0" + variable.encode() + b"\0"
    for path in Path("/proc").glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):  # gone, or of another user
            if pid != os.getpid() and wanted in b"\0" + path.read_bytes() + b"\0":
                yield pid


def main() -> None:
    """See above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: meant for the driver
    if sys.stdin.buffer.read().strip() == DONE:
        return
    variable = sys.argv[1]
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(born_with(variable)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in born_with(variable):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
