"""Exclusive lock of a run folder, released when the process that holds it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from typing import TextIO

from dgray.errors import RunRefusedError

LOCK_NAME = ".lock"


class RunLock:
    """Lock on ``RUN/.lock``, held from construction to ``release`` or the end of the process.

    The file holds the name of its owner for the message to other drivers. ``filelock`` would
    truncate it before the lock is taken, and falls back to a lock that outlives a killed process.

    Raises:
        RunRefusedError: another process holds the lock; the message names it.
    """

    lost = None  # it cannot be lost, unlike a ``Lease``

    def __init__(self, folder: Path) -> None:
        # Not closed by a `with`: the lock lives as long as the open file.
        self._file: TextIO = open(folder / LOCK_NAME, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise RunRefusedError(
                f"{folder}: a run folder can be written by one driver at a time, and this one is "
                f"locked by {holder}; wait for it, stop it, or give another folder with --out"
            ) from error
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Release the lock."""
        with contextlib.suppress(ValueError):  # already closed
            self._file.truncate(0)
            self._file.close()
