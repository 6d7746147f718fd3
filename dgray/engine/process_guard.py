"""Guard process that ends what a driver left running; a script, and the driver's side of it.

    python process_guard.py NAME=VALUE LAST_MESSAGE

The guard reads lines from its standard input until the driver closes it. A line ``done`` states
that the driver has ended Ray. Otherwise it died: Ray ends a driver silently when one of Ray's own
processes has died, and the kernel does when memory runs out. The guard then prints the last
message in the driver's place, unless a line ``reported`` shows that the driver has explained its
end. In both cases it waits a few seconds and kills every process that was named in a line
``also``; if the driver died, those with ``NAME=VALUE`` in their environment too. Imports the
standard library only, so that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REPORTED = b"reported\n"
DONE = b"done\n"
SHOW_CURSOR = "\x1b[?25h"  # the driver's live view hides it
_ALSO = b"also "
_GRACE_SECONDS = 3.0  # for processes to end by themselves
_PROC = Path("/proc")

_guard_input: int | None = None  # a process has one driver; its signal handlers need this too


def connect(descriptor: int | None) -> None:
    """Set the standard input of this process's guard, or None if there is no guard any more."""
    global _guard_input
    _guard_input = descriptor


def send(line: bytes) -> None:
    """Send a line to the guard; does nothing without one."""
    if _guard_input is not None:
        with contextlib.suppress(OSError):  # the guard was killed
            os.write(_guard_input, line)


def also_children_of(parent: int) -> bytes:
    """Return the line that names the current children of a process.

    Ray's agents set their process title, which may overwrite their environment.
    """
    pids = (path.name for path in _PROC.glob("[0-9]*"))
    children = [f"{pid}:{start}" for pid in pids for start in _start_time(pid, parent)]
    return _ALSO + " ".join(children).encode() + b"\n"


def _start_time(pid: str, parent: int | None = None) -> Iterator[str]:
    """Yield the start time of a running process, if it is a child of ``parent`` (None: any)."""
    with contextlib.suppress(OSError):  # the process has ended
        after_name = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
        state, parent_pid, start = after_name[0], int(after_name[1]), after_name[19]
        if state != "Z" and parent in (parent_pid, None):
            yield start


def _named_processes(lines: set[bytes]) -> Iterator[int]:
    """Yield processes of ``also`` lines that still run; the start time tells reused ids apart."""
    for line in lines:
        if line.startswith(_ALSO):
            for entry in line.removeprefix(_ALSO).decode().split():
                pid, _, start = entry.partition(":")
                if start in _start_time(pid):
                    yield int(pid)


def _marked_processes(variable: str) -> Iterator[int]:
    """Yield running processes whose environment holds ``NAME=VALUE``."""
    entry = b"\0" + variable.encode() + b"\0"
    for path in _PROC.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if entry in b"\0" + path.read_bytes() + b"\0":
                yield int(path.parent.name)


def main() -> None:
    """Run the guard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the driver
    lines = set(sys.stdin.buffer)
    variable, last_message = sys.argv[1:]
    if not lines & {DONE, REPORTED}:
        with contextlib.suppress(OSError):  # the terminal may be closed
            cursor = SHOW_CURSOR if os.isatty(2) else ""
            print(cursor + last_message, file=sys.stderr, flush=True)

    def left_running() -> set[int]:
        # Agents stay for a minute if the raylet was killed while the driver ended Ray.
        marked = () if DONE in lines else _marked_processes(variable)
        return {*marked, *_named_processes(lines)} - {os.getpid()}

    deadline = time.monotonic() + _GRACE_SECONDS
    while left_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left_running():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
