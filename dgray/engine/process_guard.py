"""Guard process that ends what a driver left running; a script, and the driver's side of it.

    python process_guard.py NAME=VALUE LAST_MESSAGE

The guard reads lines from its standard input until the driver closes it. A line ``done`` states
that the driver has ended Ray. Otherwise it died: Ray ends a driver silently when one of Ray's own
processes has died, and the kernel does when memory runs out. The guard then prints the last
message in the driver's place, unless a line ``reported`` shows that the driver has explained its
end. In both cases it waits a few seconds and kills every process that was named in a line
``also``; if the driver died, also those that had ``NAME=VALUE`` in their environment, and it
removes the folders named in lines ``temporary``. Imports the standard library only, so that it
starts in milliseconds.
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
_TEMPORARY = b"temporary "
_GRACE_SECONDS = 3.0  # for processes to end by themselves
_PROC = Path("/proc")

_guard_input: int | None = None  # a process has one driver; its signal handlers need this too
_is_abandoned = False


def connect(descriptor: int | None) -> None:
    """Set the standard input of this process's guard, or None if there is no guard any more."""
    global _guard_input
    _guard_input = descriptor


def send(line: bytes) -> None:
    """Send a line to the guard; does nothing without one."""
    if _guard_input is not None:
        with contextlib.suppress(OSError):  # the guard was killed
            os.write(_guard_input, line)


def abandon() -> None:
    """Leave what this process has started to the guard, which acts once this process has ended.

    A thread in the middle of Ray's C++ code can neither be stopped nor be waited for.
    """
    global _is_abandoned
    _is_abandoned = True
    send(also_family_of(os.getpid()))
    send(REPORTED)


def is_abandoned() -> bool:
    """Return whether this process must end by ``os._exit``, without a normal shutdown."""
    return _is_abandoned


def temporary(folder: Path) -> bytes:
    """Return the line that names a folder to be removed after the processes have ended."""
    return _TEMPORARY + os.fsencode(folder).hex().encode() + b"\n"


def also_family_of(parent: int) -> bytes:
    """Return the line that names the current children of a process, and their children.

    Ray's agents set their process title, which may overwrite their environment.
    """
    parents: dict[int, int] = {}
    starts: dict[int, str] = {}
    for path in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended
            pid = int(path.name)
            parents[pid], starts[pid] = _stat(pid)
    family = {parent}
    while grown := {pid for pid in parents if parents[pid] in family} - family:
        family |= grown
    members = (family & starts.keys()) - {parent}
    return _ALSO + " ".join(f"{pid}:{starts[pid]}" for pid in members).encode() + b"\n"


def _stat(pid: int) -> tuple[int, str]:
    """Return the parent and the start time of a process; the parent of a zombie is 0."""
    after_name = (_PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2]
    state, parent, *others = after_name.split()
    return 0 if state == "Z" else int(parent), others[17]


def _still_running(entries: set[str]) -> set[int]:
    """Return the processes of entries ``PID:START``; the start time tells reused ids apart."""
    running = set()
    for entry in entries:
        pid, _, start = entry.partition(":")
        with contextlib.suppress(OSError):  # the process has ended
            parent, actual_start = _stat(int(pid))
            if parent and actual_start == start:
                running.add(int(pid))
    return running - {os.getpid()}


def _marked_processes(variable: str) -> Iterator[str]:
    """Yield an entry for each running process whose environment holds ``NAME=VALUE``."""
    text = b"\0" + variable.encode() + b"\0"
    for path in _PROC.glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if text in b"\0" + path.read_bytes() + b"\0":
                yield f"{pid}:{_stat(pid)[1]}"


def _named(lines: set[bytes], kind: bytes) -> list[str]:
    return [
        word
        for line in lines
        if line.startswith(kind)
        for word in line.removeprefix(kind).decode().split()
    ]


def main() -> None:
    """Run the guard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the driver
    lines = set(sys.stdin.buffer)
    variable, last_message = sys.argv[1:]
    if not lines & {DONE, REPORTED}:
        with contextlib.suppress(OSError):  # the terminal may be closed
            cursor = SHOW_CURSOR if os.isatty(2) else ""
            print(cursor + last_message, file=sys.stderr, flush=True)
    entries = set(_named(lines, _ALSO))

    def left_running() -> set[int]:
        # Agents stay for a minute if the raylet was killed while the driver ended Ray.
        if DONE not in lines:
            entries.update(_marked_processes(variable))
        return _still_running(entries)

    deadline = time.monotonic() + _GRACE_SECONDS
    while left_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    while left_running() and time.monotonic() < deadline + _GRACE_SECONDS:
        for pid in left_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    for folder in () if DONE in lines else _named(lines, _TEMPORARY):
        import shutil  # takes as long to import as everything else here

        shutil.rmtree(os.fsdecode(bytes.fromhex(folder)), ignore_errors=True)


if __name__ == "__main__":
    main()
