"""SIGINT and SIGTERM: the first signal ends a study at a safe point, the second one at once.

Ending at once loses no more than ending at a safe point: files are written atomically, and Ray's
processes end with the driver.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dgray.engine import process_guard
from dgray.errors import INTERRUPTED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = "stopped at once; finished work is kept, and the same command does the rest\n"


class _SignalHandler:
    """Handler of both signals inside one block."""

    def __init__(self) -> None:
        self.received = threading.Event()
        self.is_deferred = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.received.is_set():
            cursor = process_guard.SHOW_CURSOR if os.isatty(2) else ""
            os.write(2, (cursor + _AT_ONCE).encode())  # sys.stderr may be in the middle of a write
            process_guard.send(process_guard.REPORTED)
            os._exit(INTERRUPTED)
        self.received.set()
        if not self.is_deferred:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[_SignalHandler]:
    """Raise KeyboardInterrupt at the first SIGINT or SIGTERM inside the block.

    SIGTERM is included because job schedulers send it. Does nothing outside the main thread, which
    alone receives signals.
    """
    handler = _SignalHandler()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Set the returned event at the first SIGINT or SIGTERM inside the block, and do no more."""
    current = signal.getsignal(signal.SIGINT)
    if isinstance(current, _SignalHandler):
        current.is_deferred = True
        try:
            yield current.received
        finally:
            current.is_deferred = False
        return
    with interruptible() as handler:
        handler.is_deferred = True
        yield handler.received
