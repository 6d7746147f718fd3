"""Signals and the end of the commands that may start Ray."""

from __future__ import annotations

import os
from collections.abc import Callable

from dgray.cli.command import exit_status
from dgray.engine import process_guard
from dgray.engine.interrupt import interruptible


def engine_exit_status(command: Callable[[], int], *, interrupted: str) -> int:
    """Return ``exit_status`` of a command that is interrupted by SIGTERM as by Ctrl-C.

    Ends the process if a thread of it is still in Ray's C++ code, for which Python would wait.
    """
    with interruptible():
        status = exit_status(command, interrupted=interrupted)
    if process_guard.is_abandoned():
        os._exit(status)
    return status
