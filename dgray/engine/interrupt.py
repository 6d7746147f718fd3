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
STOPPING = "stopping ... (once more stops at once)"
_AT_ONCE = "stopped at once; finished work is kept, and the same command does the rest"


class _SignalHandler:
    """Handler of both signals inside one block.

    Python runs a handler between two bytecode instructions, so a long computation can delay it.
    The thread ``follow`` receives signals at once.

    Attributes:
        received: set when the first signal is handled.
        is_deferred: True if the first signal should raise nothing.
        is_acknowledged: True once a signal has arrived.
        has_view: True if a live view shows ``STOPPING`` in place of a line on stderr.
    """

    def __init__(self) -> None:
        self.received = threading.Event()
        self.is_deferred = False
        self.is_acknowledged = False
        self.has_view = False
        self._acknowledging = threading.Lock()
        self._ending = threading.RLock()  # a signal may interrupt the main thread inside _end

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._acknowledge()
        if self.received.is_set():
            self._end()
        self.received.set()
        if not self.is_deferred:
            raise KeyboardInterrupt

    def follow(self, wakeups: int) -> None:
        """Act on signals when they arrive, until the pipe of wakeups is closed."""
        count = 0
        while number := os.read(wakeups, 1):
            if number[0] in _SIGNALS:
                count += 1
                self._acknowledge()
            if count > 1:
                self._end()

    def _acknowledge(self) -> None:
        # Not by sys.stderr, which may be in the middle of a write.
        if self._acknowledging.acquire(blocking=False):
            self.is_acknowledged = True
            if not self.has_view:
                os.write(2, f"{STOPPING}\n".encode())

    def _end(self) -> None:
        # If the other thread ends the process already, this one must not run on until then.
        with self._ending:
            cursor = process_guard.SHOW_CURSOR if os.isatty(2) else ""
            os.write(2, f"{cursor}{_AT_ONCE}\n".encode())
            process_guard.send(process_guard.REPORTED)
            os._exit(INTERRUPTED)


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
        with _followed(handler):
            yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def _followed(handler: _SignalHandler) -> Iterator[None]:
    """Run ``handler.follow`` in a thread inside the block."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=handler.follow, args=(reader,), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)
        thread.join()
        os.close(reader)


def is_stopping() -> bool:
    """Return True once a signal has arrived that ends this process at a safe point."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler, _SignalHandler) and handler.is_acknowledged


def acknowledge_in_view(*, is_live: bool) -> None:
    """Declare that a live view shows ``STOPPING`` while ``is_stopping``, or that it ended."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _SignalHandler):
        handler.has_view = is_live


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
