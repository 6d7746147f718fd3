"""Who tells how to go on when a driver ends: the driver, or, if it cannot, its guard.

Ray ends a driver from inside, without a word, when one of Ray's own processes is gone; the kernel
does when memory runs out. The guard (``dgray/engine/orphan_guard.py``) outlives it and speaks
then, unless it was told that the driver has spoken. There is one driver in a process, so this is
of the process.
"""

from __future__ import annotations

import contextlib
import os

from dgray.engine.orphan_guard import SAID

_guard: int | None = None


def guarded_by(descriptor: int | None) -> None:
    """The guard's standard input; None: there is no guard any more."""
    global _guard
    _guard = descriptor


def have_been_said() -> None:
    """The driver has told its user how to go on; may be called by a signal handler."""
    if _guard is not None:
        with contextlib.suppress(OSError):  # it was killed: its own affair
            os.write(_guard, SAID)
