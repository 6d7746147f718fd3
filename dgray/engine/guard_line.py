"""The driver's line to its guard (``dgray/engine/orphan_guard.py``): what it should know.

There is one driver in a process, so this is of the process: a signal handler needs it too.
"""

from __future__ import annotations

import contextlib
import os

_guard: int | None = None


def connect(descriptor: int | None) -> None:
    """The guard's standard input; None: there is no guard any more."""
    global _guard
    _guard = descriptor


def tell(line: bytes) -> None:
    """One of the lines that the guard knows; nothing if there is no guard."""
    if _guard is not None:
        with contextlib.suppress(OSError):  # it was killed: its own affair
            os.write(_guard, line)
