"""The processes of a Ray of our own share the driver's fate: neither outlives the other.

A driver that is killed takes Ray's servers with it (Ray asks the kernel for that) and its workers
end within seconds, but two helpers of the raylet would wait a minute for a server that is gone: a
guard ends them. A driver whose raylet or GCS dies would hang or end without a word, so it is
watched and ends with one; if Ray is faster, or the driver is killed, the guard says it. A Ray that
was there already is none of ours. Knows Ray's process table.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private import worker as ray_worker

from dgray.engine import guard_line, orphan_guard
from dgray.engine.events import EngineLost, Observe
from dgray.engine.ray_session import environment
from dgray.errors import EngineError

_WATCHED = ("raylet", "gcs_server")  # without which no study goes on
_POLL_SECONDS = 0.05  # Ray ends the process some ten seconds later, or at once if it is in a call
_MARK = "DGRAY_DRIVER"  # in the environment of all that is started inside
_ENDED = (
    "the study was ended from outside: its process was killed, or Ray ended it because one of "
    "Ray's own had died; what was finished is kept. "
)


@contextlib.contextmanager
def no_orphans(resume_hint: str) -> Iterator[None]:
    """What is started inside, Ray above all, ends soon after this process however it ends.

    ``resume_hint``: how, in words; said for the driver if it ends without any.
    """
    if not Path("/proc/self/environ").exists():
        yield  # not Linux: Ray's helpers wait their minute
        return
    value = f"{os.getpid()}-{secrets.token_hex(4)}"
    with subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            orphan_guard.__file__,
            f"{_MARK}={value}",
            _ENDED + resume_hint,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # so that what ends the driver's group does not end it
    ) as guard:
        assert guard.stdin is not None
        guard_line.connect(guard.stdin.fileno())
        try:
            with environment({_MARK: value}):
                yield
        finally:
            guard_line.tell(orphan_guard.DONE)
            guard_line.connect(None)
            guard.stdin.close()


@contextlib.contextmanager
def watched_ray(observe: Observe) -> Iterator[None]:
    """If a Ray of our own dies inside, tell ``EngineLost`` and end the process, status 1.

    Raises:
        EngineError: it died, and something else that was raised inside came of that.
    """
    own = _own_processes()
    if "raylet" in own:  # its agents wait a minute for it, and may not know the mark any more
        guard_line.tell(orphan_guard.also_children_of(own["raylet"].pid))
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            for kind, process in own.items():
                status = process.poll()
                if status is not None and not over.is_set():
                    observe(EngineLost(reason=f"Ray's {kind} ended ({_in_words(status)})"))
                    guard_line.tell(orphan_guard.SAID)
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(1)  # threads of Ray's own would make it wait, or end it first

    thread = threading.Thread(target=watch, name="ray-watch", daemon=True)
    if own:
        thread.start()
    try:
        yield
    except Exception as error:  # a call of ours may notice before the thread does
        time.sleep(_POLL_SECONDS)
        for kind, process in own.items():
            if (status := process.poll()) is not None:
                raise EngineError(
                    f"Ray's {kind} ended ({_in_words(status)}); what was finished is kept"
                ) from error
        raise
    finally:
        over.set()
        if own:
            thread.join()


def _own_processes() -> dict[str, subprocess.Popen[bytes]]:
    """By Ray's names; none if Ray was there already."""
    node: Any = ray_worker._global_node
    table = {} if node is None else node.all_processes
    return {kind: found[0].process for kind, found in table.items() if kind in _WATCHED}


def _in_words(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
