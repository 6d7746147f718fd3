"""Finds runs in folders and object stores, and reads their overviews at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from dgray.errors import DgrayError, NotARunError
from dgray.record.run_files import FORMAT_FILE, LOCK_FILE, RUN_MARKS
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import refuse_other_format
from dgray.record.run_lock import LOCK_NAME, is_locked
from dgray.record.storage.lease import LEASE_SECONDS
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Entry, Store
from dgray.record.storage.working_copy import copy_record
from dgray.reporting.overview import RunOverview, overview

_DEPTH = 3  # levels of folders below a given one that are searched
_AT_ONCE = 8


@dataclass(frozen=True)
class _Run:
    """Place of a run; of one in a store, its objects by name."""

    place: Path | Uri
    entries: Mapping[str, Entry]


def overviews(places: Sequence[str]) -> list[RunOverview]:
    """Return the overviews of all runs at or below some places.

    Raises:
        NotARunError: one of the places holds no run.
    """
    runs = {str(run.place): run for place in places for run in _runs_at(place)}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_overview, runs.values()))


def _runs_at(text: str) -> list[_Run]:
    place = location(text)
    if isinstance(place, Uri):
        runs = list(_in_store(place))
    else:
        runs = [_Run(folder, {}) for folder in _in_folder(place, _DEPTH)]
    if not runs:
        raise NotARunError(
            f"{place}: there is no run at or below this place; give a run folder, a folder of "
            "runs, or the URI of either"
        )
    return runs


def _in_folder(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).exists() for name in RUN_MARKS):
        yield folder
    elif depth and folder.is_dir():
        for subfolder in sorted(folder.iterdir()):
            if subfolder.is_dir() and not subfolder.name.startswith("."):
                yield from _in_folder(subfolder, depth - 1)


def _in_store(uri: Uri) -> Iterator[_Run]:
    """Yield the runs at or below a URI, from one list of its objects."""
    entries = Store(uri).entries()
    roots = {_root(PurePosixPath(name)) for name in entries} - {None}
    for root in sorted(map(str, roots)):
        prefix = "" if root == "." else f"{root}/"
        inner = {n.removeprefix(prefix): e for n, e in entries.items() if n.startswith(prefix)}
        yield _Run(uri.beside(f"/{root}") if prefix else uri, inner)


def _root(name: PurePosixPath) -> PurePosixPath | None:
    """Return the run that an object belongs to, if its name shows one."""
    if name.name in (LOCK_FILE, FORMAT_FILE):
        return name.parent
    return name.parent.parent if name.parent.name == "rows" else None


def _overview(run: _Run) -> RunOverview:
    try:
        if isinstance(run.place, Uri):
            return _of_store(run.place, run.entries)
        refuse_other_format(RunFolder(run.place).files, run.place)
        return overview(
            RunFolder(run.place),
            place=str(run.place),
            num_bytes=_size(run.place),
            is_running=is_locked(run.place),
        )
    except (DgrayError, OSError) as error:
        name = run.place.name
        return RunOverview(
            place=str(run.place), study=name, state="unreadable", problems=(str(error),)
        )


def _of_store(uri: Uri, entries: Mapping[str, Entry]) -> RunOverview:
    now = datetime.now(UTC).timestamp()
    renewals = [e.modified / 1e9 for n, e in entries.items() if n.startswith(f"{LOCK_NAME}/")]
    store = Store(uri)
    with tempfile.TemporaryDirectory(prefix="dgray-run-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / uri.name
        copy_record(store, entries, copy)
        refuse_other_format(RunFolder(copy).files, uri)
        return overview(
            RunFolder(copy, store, str(uri)),
            place=str(uri),
            num_bytes=sum(entry.size for entry in entries.values()),
            is_running=now - max(renewals, default=0.0) < LEASE_SECONDS,
        )


def _size(folder: Path) -> int:
    """Return the bytes of all files, those that vanish meanwhile left out."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except FileNotFoundError:
            continue
    return total
