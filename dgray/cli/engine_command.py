"""Signals and the end of the commands that may start Ray."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec

from dgray.cli.command import exit_status
from dgray.engine import process_guard
from dgray.engine.interrupt import interruptible

P = ParamSpec("P")


def engine_command(*, interrupted: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Return a decorator of callbacks: ``engine_exit_status`` of the callback."""

    def decorate(callback: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(callback)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            return engine_exit_status(lambda: callback(*args, **kwargs), interrupted=interrupted)

        return guarded

    return decorate


def engine_exit_status(command: Callable[[], int], *, interrupted: str) -> int:
    """Return ``exit_status`` of a command that is interrupted by SIGTERM as by Ctrl-C.

    Ends the process if a thread of it is still in Ray's C++ code, for which Python would wait.
    """
    with interruptible():
        status = exit_status(command, interrupted=interrupted)
    if process_guard.is_abandoned():
        os._exit(status)
    return status
