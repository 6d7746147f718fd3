"""Ends processes that a driver left behind: a script, started by the driver, that outlives it.

    python orphan_guard.py NAME=VALUE LAST_WORDS

Reads lines from its standard input until that ends. If the last is "done", that is all; else the
driver died. Ray ends one from inside, without a word, when a process of its own is gone; the
kernel does when memory runs out. So its last words are said for it, unless it has told that it has
"said" them. Every process that was born with this variable in its environment, or was named in a
line "also", and does not end by itself is killed. Knows the standard library only: it is to start
in no time.
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
_ALSO = b"also "
_SHOW_CURSOR = "\x1b[?25h"  # the driver's live view hides it
_GRACE_SECONDS = 3.0  # in which they may end by themselves, and tidy up
_PROC = Path("/proc")


def also_children_of(parent: int) -> bytes:
    """The line that names the children of a process as they are now.

    Those who give themselves a title may wipe out their environment by it, as Ray's agents do.
    """
    processes = (path.name for path in _PROC.glob("[0-9]*"))
    found = [f"{pid}:{started}" for pid in processes for started in _started(pid, parent)]
    return _ALSO + " ".join(found).encode() + b"\n"


def _started(pid: str, parent: int | None = None) -> Iterator[str]:
    """When a process started, if it is there; of ``parent`` alone, if one is given."""
    with contextlib.suppress(OSError):  # gone
        after_name = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
        state, of, started = after_name[0], int(after_name[1]), after_name[19]
        if state != "Z" and parent in (of, None):
            yield started


def _named(lines: list[bytes]) -> Iterator[int]:
    """Processes of lines "also" that are still there, and the same."""
    for line in lines:
        for word in line.removeprefix(_ALSO).decode().split() if line.startswith(_ALSO) else []:
            pid, _, started = word.partition(":")
            if started in _started(pid):
                yield int(pid)


def _born_with(variable: str) -> Iterator[int]:
    """Processes with this variable, as ``NAME=VALUE``, except the dead."""
    wanted = b"\0" + variable.encode() + b"\0"
    for path in _PROC.glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):  # gone, or of another user
            if wanted in b"\0" + path.read_bytes() + b"\0":
                yield pid


def main() -> None:
    """See above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: meant for the driver
    told = sys.stdin.buffer.readlines()
    if told[-1:] == [DONE]:
        return
    variable, last_words = sys.argv[1:]
    if SAID not in told:
        with contextlib.suppress(OSError):  # the terminal may be gone too
            print((_SHOW_CURSOR if os.isatty(2) else "") + last_words, file=sys.stderr, flush=True)

    def left() -> set[int]:
        return {*_born_with(variable), *_named(told)} - {os.getpid()}

    deadline = time.monotonic() + _GRACE_SECONDS
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
