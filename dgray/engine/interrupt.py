"""Ctrl-C and SIGTERM: the first ends a study at a safe point, the second ends the process at once.

At once loses no more than the first would: every file is there whole or not at all, and Ray's
processes end with the driver. Knows signals, and that there is a guard that might speak instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dgray.engine import guard_line
from dgray.engine.orphan_guard import SAID
from dgray.errors import INTERRUPTED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = "stopped at once; what was finished is kept, and the same command goes on from there\n"
_SHOW_CURSOR = "\x1b[?25h"  # a live view hides it


class _Interrupts:
    """What the signals of one block do."""

    def __init__(self) -> None:
        self.pressed = threading.Event()
        self.is_deferred = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """A signal arrived."""
        if self.pressed.is_set():
            text = (_SHOW_CURSOR if os.isatty(2) else "") + _AT_ONCE
            os.write(2, text.encode())  # sys.stderr may be in the middle of a line of its own
            guard_line.tell(SAID)
            os._exit(INTERRUPTED)
        self.pressed.set()
        if not self.is_deferred:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[_Interrupts]:
    """The first SIGINT or SIGTERM inside the block is a KeyboardInterrupt.

    So a scheduler that ends the job gets a clean folder too. In a thread that is not the main one
    nothing changes: only the main thread gets signals.
    """
    interrupts = _Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """The first SIGINT or SIGTERM inside the block sets the event, and nothing else."""
    current = signal.getsignal(signal.SIGINT)
    if isinstance(current, _Interrupts):
        current.is_deferred = True
        try:
            yield current.pressed
        finally:
            current.is_deferred = False
        return
    with interruptible() as interrupts:
        interrupts.is_deferred = True
        yield interrupts.pressed
