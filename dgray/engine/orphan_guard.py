"""Ends processes that a driver left behind: a script, started by the driver, that outlives it.

    python orphan_guard.py NAME=VALUE LAST_WORDS

Waits until its standard input ends. If the driver said "done" before, that is all; else it died:
its last words are said for it, if it has not "said" them, and every process that was born with
this variable in its environment and does not end by itself is killed. Knows the standard library
only: it is to start in no time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SAID = b"said\n"
DONE = b"done\n"
_SHOW_CURSOR = "\x1b[?25h"  # the driver's live view hides it
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
    told = sys.stdin.buffer.read()
    if told.endswith(DONE):
        return
    variable, last_words = sys.argv[1:]
    if SAID not in told:
        with contextlib.suppress(OSError):  # the terminal may be gone too
            print((_SHOW_CURSOR if os.isatty(2) else "") + last_words, file=sys.stderr, flush=True)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(born_with(variable)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in born_with(variable):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
