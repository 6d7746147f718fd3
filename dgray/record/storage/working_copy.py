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
from pathlib import Path

from dgray.errors import RunRefusedError
from dgray.files import inside, write_atomically
from dgray.record.run_files import RunFiles
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import refuse_other_format
from dgray.record.storage.location import Uri
from dgray.record.storage.store import Store, s3_endpoint

# What a report is made from. Checkpoints and artifacts are read from the store by name.
_COPIED = re.compile(
    r"(rows|samples|losses)/[^/]+\.parquet|search/[^/]+/[^/]+\.json|[^/]+\.(yaml|json)"
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
    if not any(name.startswith("rows/") for name in names):
        raise RunRefusedError(
            f"{store.uri}: there is no run here, because there is no rows/; give the URI that was "
            "given to python -m dgray.study with --out"
        )
    copy_record(store, names, folder)
    refuse_other_format(RunFiles(folder), store.uri)


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
