"""A run of an object store on this machine: the record copied, what is large read when asked for.

The store is the record. A working copy is made anew from it and removed in the end; a file is in
it only if it is in the store, since it is put there first (``RunFolder`` with the store as its
mirror). Knows the store and files.
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
from dgray.files import write_atomically
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import refuse_other_format
from dgray.record.storage.location import Uri
from dgray.record.storage.store import Store, s3_endpoint

# Checkpoints and artifacts are fetched by name; a report is made from the record.
_RECORD = re.compile(
    r"(rows|samples|losses)/[^/]+\.parquet|search/[^/]+/[^/]+\.json|[^/]+\.(yaml|json)"
)
_OF_REPORT = ("report.html", "report.parquet", "search.parquet", "optuna.journal")
_FOLDERS_OF_REPORT = ("figures", "tensorboard")
_AT_A_TIME = 16  # requests; they wait for the network, not for the processor


def working_folder(uri: Uri) -> Path:
    """Where a driver on this machine keeps its working copy of a run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    identity = f"{uri} at {s3_endpoint()}"  # stores may have buckets of the same name
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return cache / "dgray" / "runs" / f"{uri.name}-{digest}"


def copy_record(store: Store, names: Iterable[str], folder: Path) -> None:
    """Fill ``folder`` with what these names hold of rows, clouds, losses and searches."""
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(name: str) -> None:
        content = store.read(name)
        if content is not None:
            write_atomically(folder / name, lambda file: file.write(content))

    wanted = [name for name in names if _RECORD.fullmatch(name) and not name.startswith(".")]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(fetch, wanted))


def remove(folder: Path) -> None:
    """Of an earlier driver, or one's own in the end."""
    shutil.rmtree(folder, ignore_errors=True)


def publish_report(store: Store, folder: Path) -> None:
    """Put the report's files into the store, the page last, and remove those of an earlier one."""
    files = [folder / name for name in _OF_REPORT]
    for kept in _FOLDERS_OF_REPORT:
        files += sorted((folder / kept).rglob("*"))
    names = [str(p.relative_to(folder)) for p in files if p.is_file()]
    names.sort(key=_OF_REPORT.__contains__)
    there = [n for kept in _FOLDERS_OF_REPORT for n in store.entries(kept)]

    def put(name: str) -> None:
        store.write(name, (folder / name).read_bytes())

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(put, names[:-1]))
        list(pool.map(store.delete, set(there) - set(names)))
    for name in names[-1:]:
        put(name)


def copy_to_read(store: Store, folder: Path) -> None:
    """Fill ``folder`` with the record of a run that is there.

    Raises:
        RunRefusedError: none is.
        StoreError: it cannot be read.
    """
    names = store.entries()
    if not any(name.startswith("rows/") for name in names):
        raise RunRefusedError(
            f"{store.uri}: a run has rows/, and nothing of that name is there; give the URI that "
            "python -m dgray.study was given with --out"
        )
    copy_record(store, names, folder)
    refuse_other_format(folder, store.uri)


@contextlib.contextmanager
def reading(place: Path | Uri) -> Iterator[RunFolder]:
    """A run to read; of a URI a copy that is removed in the end.

    Raises:
        RunRefusedError: there is none, or it is of another format.
        StoreError: it cannot be read.
    """
    if isinstance(place, Path):
        refuse_other_format(place, place)
        yield RunFolder(place)
        return
    store = Store(place)
    with tempfile.TemporaryDirectory(prefix="dgray-run-", ignore_cleanup_errors=True) as folder:
        copy_to_read(store, Path(folder) / place.name)
        yield RunFolder(Path(folder) / place.name, store)
