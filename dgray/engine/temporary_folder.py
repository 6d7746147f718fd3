"""Private temporary folders for the files of Ray and Tune, which dgray does not use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dgray.engine import process_guard
from dgray.errors import EngineError

_PATIENCE_SECONDS = 5.0  # then the next start removes the folder
_POLL_SECONDS = 0.1
_POLLS_ABSENT = 3  # Ray's agents create missing folders again


@contextlib.contextmanager
def temporary_folder(kind: str, place: Path | None = None) -> Iterator[Path]:
    """Create a folder that only this user can open, and remove it unless Ray fails.

    Folders of drivers that were killed are removed too. A folder in use is locked; the lock ends
    with the process that holds it, however that ends.

    Args:
        kind: part of the name ``dgray-KIND-XXXXXXXX``.
        place: folder of the new folder; None: that of Python's ``tempfile``.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    prefix = f"dgray-{kind}-"
    _remove_stale(place, prefix)
    new = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=place))  # of mode 0700
    descriptor = os.open(new, os.O_RDONLY)
    with contextlib.suppress(OSError):  # a file system without locks, where nothing is stale
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Renamed once it is locked, so that no other driver removes it as stale.
    folder = new.rename(new.with_name(new.name.removeprefix(".")))
    process_guard.send(process_guard.temporary(folder))
    is_kept = False
    try:
        yield folder
    except EngineError:
        is_kept = True  # with Ray's logs
        raise
    finally:
        # If abandoned, the guard removes it, after the processes that use it.
        if not (is_kept or process_guard.is_abandoned()):
            _remove(folder)
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a folder in which processes that are about to end may still create files."""
    deadline, num_absent = time.monotonic() + _PATIENCE_SECONDS, 0
    while num_absent < _POLLS_ABSENT and time.monotonic() < deadline:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            num_absent = 0
        time.sleep(_POLL_SECONDS)
        num_absent += not folder.exists()


def _remove_stale(place: Path, prefix: str) -> None:
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # in use, of another user, or removed meanwhile
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid != os.getuid():
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
