"""One driver a run folder: an exclusive lock that ends with the process that holds it.

Knows the file system only.
"""

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
    """Holds ``RUN/.lock`` from construction to ``release`` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock of ``folder``, or raise RunRefusedError naming who has it."""
        # Not closed by a `with`: the lock lives as long as the open file.
        self._file: TextIO = open(folder / LOCK_NAME, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise RunRefusedError(
                f"{folder}: one driver at a time may write a run folder, and {holder} is at it; "
                f"wait for it, end it, or give another folder with --out"
            ) from error
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let another driver have the folder."""
        with contextlib.suppress(ValueError):  # closed already
            self._file.truncate(0)
            self._file.close()
