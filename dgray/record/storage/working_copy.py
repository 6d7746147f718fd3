"""Local working copy of a run in an object store, for drivers and for readers of the run.

The store is the record. A working copy is downloaded when a run is opened and removed when it is
closed; checkpoints and artifacts are read from the store when they are needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

from dgray.errors import RunRefusedError
from dgray.files import inside, write_atomically
from dgray.record.run_files import RUN_MARKS, RunFiles
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import refuse_other_format
from dgray.record.storage.location import Uri
from dgray.record.storage.store import Entry, Store, s3_endpoint

# What a report is made from. Checkpoints and artifacts are read from the store by name.
_COPIED = re.compile(
    r"(rows|samples|losses)/[^/]+\.parquet|(earlier/)?search/[^/]+/[^/]+\.json|[^/]+\.(yaml|json)"
)
_REPORT_FILES = ("optuna.journal", "search.parquet", "report.parquet", "report.html")  # in order
_REPORT_FOLDERS = ("figures", "tensorboard")
_MAX_REQUESTS = 16  # at a time; bound by the network


def working_folder(uri: Uri) -> Path:
    """Return the folder of the working copy of a run on this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    identity = f"{uri} at {s3_endpoint()}"  # buckets of two stores may share a name
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return cache / "dgray" / "runs" / f"{uri.name}-{digest}"


def copy_record(store: Store, names: Iterable[str], folder: Path) -> None:
    """Copy rows, clouds, losses, searches and metadata to ``folder``, given all names."""
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(name: str) -> None:
        content = store.read(name)
        if content is not None:
            write_atomically(inside(folder, name), lambda file: file.write(content))

    copied = [name for name in names if _COPIED.fullmatch(name) and not name.startswith(".")]
    with ThreadPoolExecutor(_MAX_REQUESTS) as pool:
        list(pool.map(fetch, copied))


def remove(folder: Path) -> None:
    """Remove a working copy."""
    shutil.rmtree(folder, ignore_errors=True)


def publish_report(store: Store, folder: Path) -> None:
    """Upload the files of a report, the page last, and delete files of earlier reports."""
    files = [folder / name for name in _REPORT_FILES]
    for name in _REPORT_FOLDERS:
        files += sorted((folder / name).rglob("*"))
    names = [str(p.relative_to(folder)) for p in files if p.is_file()]
    names.sort(key=_REPORT_FILES.__contains__)
    earlier = {name for subfolder in _REPORT_FOLDERS for name in store.entries(subfolder)}

    def put(name: str) -> None:
        store.write(name, (folder / name).read_bytes())

    with ThreadPoolExecutor(_MAX_REQUESTS) as pool:
        list(pool.map(put, names[:-1]))
        list(pool.map(store.delete, earlier - set(names)))
    for name in names[-1:]:
        put(name)


def copy_to_read(store: Store, folder: Path) -> None:
    """Copy the record of a run to ``folder``.

    Raises:
        RunRefusedError: there is no run, or it has another format.
        StoreError: the store cannot be read.
    """
    names = store.entries()
    if not {name.partition("/")[0] for name in names} & set(RUN_MARKS):
        raise RunRefusedError(
            f"{store.uri}: there is no run here; give the URI that was given to dgray run with "
            "--out"
        )
    copy_record(store, names, folder)
    refuse_other_format(RunFiles(folder), store.uri)


class GrowingCopy:
    """Copy of the record of a run that another process writes; only what has changed is read.

    Args:
        place: the run.
        folder: local folder of the copy.
    """

    def __init__(self, place: Path | Uri, folder: Path) -> None:
        self._source = place if isinstance(place, Path) else Store(place)
        self.folder = folder
        self._copied: dict[str, Entry] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def names(self) -> frozenset[str]:
        """Names of the files in the copy, relative to the run."""
        return frozenset(self._copied)

    def update(self) -> bool:
        """Copy files that are new or have changed, and return whether there were any.

        Raises:
            StoreError: the store cannot be read.
        """
        entries = {
            name: entry for name, entry in self._entries().items() if _COPIED.fullmatch(name)
        }
        changed = [name for name, entry in entries.items() if self._copied.get(name) != entry]
        vanished = self._copied.keys() - entries.keys()
        for name in vanished:
            inside(self.folder, name).unlink(missing_ok=True)
            del self._copied[name]
        with ThreadPoolExecutor(_MAX_REQUESTS) as pool:
            contents = list(pool.map(self._read, changed))
        for name, content in zip(changed, contents, strict=True):
            if content is not None:  # else deleted since it was listed
                write_atomically(inside(self.folder, name), partial(_put, content))
                self._copied[name] = entries[name]
        return bool(changed or vanished)

    def _entries(self) -> dict[str, Entry]:
        if isinstance(self._source, Store):
            return self._source.entries()
        entries = {}
        for folder, _, files in os.walk(self._source):
            for file in files:
                path = Path(folder, file)
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    name = path.relative_to(self._source).as_posix()
                    entries[name] = Entry(state.st_size, state.st_mtime_ns)
        return entries

    def _read(self, name: str) -> bytes | None:
        if isinstance(self._source, Store):
            return self._source.read(name)
        try:
            return inside(self._source, name).read_bytes()
        except FileNotFoundError:
            return None


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


@contextlib.contextmanager
def reading(place: Path | Uri) -> Iterator[RunFolder]:
    """Open a run for reading; of a run in an object store, a temporary copy.

    Raises:
        RunRefusedError: there is no run, or it has another format.
        StoreError: the store cannot be read.
    """
    if isinstance(place, Path):
        refuse_other_format(RunFiles(place), place)
        yield RunFolder(place)
        return
    store = Store(place)
    with tempfile.TemporaryDirectory(prefix="dgray-run-", ignore_cleanup_errors=True) as folder:
        copy_to_read(store, Path(folder) / place.name)
        yield RunFolder(Path(folder) / place.name, store, str(place))
