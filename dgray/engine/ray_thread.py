"""Thread that starts Ray or connects to it, so that the main thread can obey signals meanwhile.

Ray's C++ code does not return for a signal. The thread lives as long as Ray: Linux kills Ray's
servers when the thread that started them ends.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Self

import ray

from dgray.engine import process_guard, ray_internals

_POLL_SECONDS = 0.05


class RayThread:
    """Thread that runs ``start`` and, at the end of the block, ``ray.shutdown``.

    If the main thread is interrupted while it waits, the thread is left to the process guard.

    Attributes:
        error: what ``start`` raised.
    """

    def __init__(self, start: Callable[[threading.Event], None]) -> None:
        """Create the thread; ``start`` may set its argument once Ray has answered."""
        self.error: Exception | None = None
        self._start = start
        self._has_answered, self._is_ready = threading.Event(), threading.Event()
        self._is_over, self._has_ended = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="ray", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        if not process_guard.is_abandoned():
            _wait(self._has_ended)

    def has_answered(self, seconds: float) -> bool:
        """Wait for Ray's answer, or for an error, and return whether one came in time."""
        if _wait(self._has_answered, seconds):
            return True
        process_guard.abandon()
        return False

    def wait(self) -> None:
        """Wait until ``start`` has returned or raised."""
        _wait(self._is_ready)

    def _run(self) -> None:
        try:
            with ray_internals.without_raylet_messages():
                self._start(self._has_answered)
        except Exception as error:
            self.error = error
        self._has_answered.set()
        self._is_ready.set()
        self._is_over.wait()
        ray.shutdown()
        self._has_ended.set()


def _wait(event: threading.Event, seconds: float = math.inf) -> bool:
    """Wait, and return whether the event was set in time.

    Ray's C++ code installs a handler of SIGTERM that ends the process silently, so the present
    handler is installed again and again.
    """
    handler = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    deadline = time.monotonic() + seconds
    try:
        while not event.wait(_POLL_SECONDS) and time.monotonic() < deadline:
            if is_main:
                signal.signal(signal.SIGTERM, handler)
    except KeyboardInterrupt:
        process_guard.abandon()
        raise
    if is_main:
        signal.signal(signal.SIGTERM, handler)
    return event.is_set()
