"""Exclusive lock of a run folder, released when the process that holds it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import time
from pathlib import Path
from typing import BinaryIO

from dgray.errors import RunRefusedError

LOCK_NAME = ".lock"
_LONGEST_NAME = 1000  # of the owner, bytes
_ATTEMPTS = 10  # to lock a file that names no owner: ``is_locked`` holds it for a moment
_PAUSE = 0.02  # seconds


class RunLock:
    """Lock on ``RUN/.lock``, held from construction to ``release`` or the end of the process.

    The file holds the name of its owner for the message to other drivers. ``filelock`` would
    truncate it before the lock is taken, and falls back to a lock that outlives a killed process.

    Raises:
        RunRefusedError: another process holds the lock (the message names it), or the file system
            cannot lock.
    """

    lost = None  # it cannot be lost, unlike a ``Lease``

    def __init__(self, folder: Path) -> None:
        self._file = _locked(folder)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._file.flush()

    def release(self) -> None:
        """Release the lock."""
        with contextlib.suppress(ValueError):  # already closed
            self._file.truncate(0)
            self._file.close()


def is_locked(folder: Path) -> bool:
    """Return whether another process, or another part of this one, holds the lock of a folder."""
    try:
        with open(folder / LOCK_NAME, "rb", opener=_opener) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(folder: Path) -> BinaryIO:
    """Return the locked file; it is not closed, because the lock is held as long as it is open."""
    path = folder / LOCK_NAME
    for attempt in itertools.count():
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(file, path):
                return file
            file.close()  # it was replaced between opening and locking
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(_LONGEST_NAME).decode(errors="replace").strip()
            file.close()
            if not holder and attempt < _ATTEMPTS:  # a reader looks, or an owner has just begun
                time.sleep(_PAUSE)
                continue
            raise RunRefusedError(
                f"{folder}: a run folder can be written by one driver at a time, and this one is "
                f"locked by {holder or 'another process'}; wait for it, stop it, or give another "
                "folder with --out"
            ) from error
        except OSError as error:
            file.close()
            raise RunRefusedError(
                f"{folder}: a run folder needs a file system with locks, but locking failed "
                f"({error.strerror}); mount it with locks (NFS 4, or NFS 3 with lockd), or give a "
                "folder on another file system with --out"
            ) from error
    raise AssertionError("unreachable: attempts are not limited")


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "a+b", opener=_opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunRefusedError(f"{path}: must be a file, not a link; remove it") from error
        raise


def _is_same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _opener(path: str, flags: int) -> int:
    # Not through a link, whose target would be truncated; and without waiting for a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
