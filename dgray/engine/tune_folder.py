"""Temporary folder for the files that Tune writes and dgray does not use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "dgray-trials-"


@contextlib.contextmanager
def tune_folder() -> Iterator[str]:
    """Create a folder that is removed afterwards; remove those of drivers that were killed.

    A folder in use is locked; the lock ends with the process that holds it, however that ends.
    """
    _remove_stale()
    new = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    descriptor = os.open(new, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Renamed once it is locked, so that no other driver removes it as stale.
    folder = new.rename(new.with_name(new.name.removeprefix(".")))
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_stale() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, of another user, or removed meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
