"""Ties the lifetimes of the driver and of the Ray that it started: neither outlives the other.

If the driver is killed, the kernel ends Ray's servers and the workers follow within seconds, but
two agents of the raylet would wait a minute for a server that is gone: a guard process ends them.
If the raylet or the GCS server dies, the driver would hang or be ended silently by Ray: a thread
watches them and ends the driver with a message, and the guard prints one if Ray is faster. A Ray
that was running before is left alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dgray.engine import process_guard, ray_internals
from dgray.engine.events import EngineLost, Observe
from dgray.engine.ray_session import EXISTING, environment
from dgray.errors import EngineError

_POLL_SECONDS = 0.05  # Ray ends the driver after about ten seconds, or at once during a call
_POLLS_PER_LIST = 20  # once a second
_MARK = "DGRAY_DRIVER"  # environment variable of all processes that are started inside
_ENDED = (
    "the study was ended from outside: its process was killed, or Ray ended it because one of "
    "Ray's processes had died; finished work is kept. "
)


@contextlib.contextmanager
def guarded(resume_hint: str) -> Iterator[None]:
    """End all processes that are started inside the block soon after this one, however it ends.

    Args:
        resume_hint: how to resume the study; printed if this process ends without a message.
    """
    if not Path("/proc/self/environ").exists():
        yield  # not Linux: Ray's agents exit on their own after about a minute
        return
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    script = process_guard.__file__
    message = (_ENDED + resume_hint).encode("utf-8", "backslashreplace")
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", script, f"{_MARK}={mark}", message],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the driver's group must not end it
    )
    assert guard.stdin is not None
    process_guard.connect(guard.stdin.fileno())
    try:
        with environment({_MARK: mark}):
            yield
    finally:
        if not process_guard.is_abandoned():
            process_guard.send(process_guard.DONE)
            process_guard.connect(None)
            guard.stdin.close()
            guard.wait()


@contextlib.contextmanager
def watched_ray(observe: Observe, where: str) -> Iterator[None]:
    """Report ``EngineLost`` and exit with status 1 if a Ray that this process started dies.

    Args:
        observe: called with the event.
        where: description of the Ray, from ``ray_session``.

    Raises:
        EngineError: Ray died and a call inside raised because of it, before the exit.
    """
    servers = ray_internals.server_processes()
    is_over = threading.Event()

    def watch() -> None:
        for poll in itertools.count():
            # The raylet's agents may have overwritten the mark in their environment.
            # Those of the caller's Ray stay; without them its raylet would end.
            if poll % _POLLS_PER_LIST == 0 and "raylet" in servers and where != EXISTING:
                process_guard.send(process_guard.also_family_of(servers["raylet"].pid))
            end = _first_end(servers)
            if end is not None and not is_over.is_set():
                observe(EngineLost(reason=end))
                process_guard.send(process_guard.REPORTED)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(1)  # a normal exit would wait for Ray's threads, or be ended by them
            if is_over.wait(_POLL_SECONDS):
                return

    thread = threading.Thread(target=watch, name="ray-watch", daemon=True)
    if servers:
        thread.start()
    try:
        yield
    except Exception as error:  # a call may notice the death before the thread does
        time.sleep(_POLL_SECONDS)
        end = _first_end(servers)
        if end is not None:
            raise EngineError(f"{end}; finished work is kept") from error
        raise
    finally:
        is_over.set()
        if servers:
            thread.join()


def _first_end(servers: dict[str, subprocess.Popen[bytes]]) -> str | None:
    """Return a message if one of Ray's servers ended, or None if all run."""
    for name, process in servers.items():
        status = process.poll()
        if status is not None:
            reason = (
                f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            )
            return f"Ray's {name} ended ({reason})"
    return None
