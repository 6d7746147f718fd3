"""Where Tune keeps files of its own while it runs: nobody reads them, and none is to stay.

Knows the file system only.
"""

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
    """A temporary folder, removed afterwards; those that killed drivers left are removed now.

    The lock on the folder ends with the process that holds it, however it ends.
    """
    _remove_stale()
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    descriptor = os.open(made, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Only now under a name that is looked for, so that none is taken for stale while it is new.
    folder = made.rename(made.with_name(made.name.removeprefix(".")))
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_stale() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or removed meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
