"""Which folder a run of a study writes into: a new one, or that of the same study, to be resumed.

A run in an object store is driven from a working copy on this machine
(``dgray.record.storage``). Nothing is ever deleted here but half-written files and old working
copies. Knows files; neither torch nor Ray.
"""

from __future__ import annotations

import _thread
import itertools
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dgray.config.reading.load import lock_text
from dgray.errors import RunRefusedError, StoreError
from dgray.files import remove_partial_files
from dgray.plan.plan import Plan
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import FORMAT_FILE, mark_here, refuse_other_versions
from dgray.record.run_lock import RunLock
from dgray.record.storage.lease import Lease
from dgray.record.storage.location import Uri
from dgray.record.storage.store import Entry, Store
from dgray.record.storage.working_copy import copy_record, publish_report, remove, working_folder

LOCK_FILE = "study.lock.yaml"
# Fields that change no metric of any row: a run may be resumed under other values.
FREE_FIELDS = (
    "description",
    "resources.max_concurrent_trials",
    "resources.max_failures",
    "resources.sampling_actors",
    "resources.result_cache",
    "resources.trial_time_limit",
)
_SHOWN = 5


class OpenRun(RunFolder):
    """A run folder that this process alone writes, until ``close``."""

    def __init__(self, path: Path, lock: RunLock | Lease, *, is_resumed: bool) -> None:
        """``lock``: of the folder; ``is_resumed``: rows of an earlier session may be there."""
        super().__init__(path)
        self.is_resumed = is_resumed
        self._lock = lock

    def close(self) -> None:
        """Let another driver have the folder."""
        self._lock.release()

    def publish_report(self) -> None:
        """Let the report that was just written be seen where the run is."""

    @property
    def lost(self) -> str | None:
        """Why the run is no longer this process's; None while it is."""
        return None


class OpenRemoteRun(OpenRun):
    """A run in an object store, of which ``path`` is this driver's working copy."""

    def __init__(self, store: Store, lease: Lease, *, is_resumed: bool) -> None:
        """The working copy is there already."""
        super().__init__(working_folder(store.uri), lease, is_resumed=is_resumed)
        self.where = str(store.uri)
        self.mirror = self._store = store
        self._lease = lease

    def write_file(self, name: str, content: bytes) -> None:
        """See ``RunFolder``; refused once another driver may have the run."""
        if self.lost is not None:
            raise StoreError(self.lost)
        super().write_file(name, content)

    def close(self) -> None:
        """Let another driver have the run; what is in the working copy is in the store."""
        super().close()
        remove(self.path)

    def publish_report(self) -> None:
        """Put it into the store."""
        publish_report(self._store, self.path)

    @property
    def lost(self) -> str | None:
        """See ``OpenRun``."""
        if not self._lease.is_lost:
            return None
        return (
            f"{self.where}: this driver's lease was not renewed in time or was taken over, so "
            "that the run may be another's by now; what was finished is kept"
        )


def open_run(plan: Plan, out: Path | Uri | None, fresh: bool) -> OpenRun:
    """The folder for ``plan``, locked: ``out`` or ``runs/NAME``; with ``fresh`` always a new one.

    Raises:
        RunRefusedError: if the folder holds another study or something else, was made by other
            versions, is in use, or cannot be reached.
    """
    wanted = out or Path("runs") / plan.study.name
    if isinstance(wanted, Uri):
        try:
            return _opened(plan, _open_remote(wanted, fresh))
        except StoreError as error:
            raise RunRefusedError(f"{error}. Nothing was started") from error
    path = _new_folder(wanted) if fresh else wanted
    path.mkdir(parents=True, exist_ok=True)
    is_resumed = (path / LOCK_FILE).exists()
    if not is_resumed:
        _refuse_something_else(path, _visible(path))
    return _opened(plan, OpenRun(path, RunLock(path), is_resumed=is_resumed))


def _opened(plan: Plan, folder: OpenRun) -> OpenRun:
    """The folder if it is the plan's to write, with its own study in it; else closed again."""
    mark = mark_here(("torch", "optuna") if plan.study.domains else ("torch",))
    try:
        if folder.is_resumed:
            _refuse_other_study(plan, folder.path / LOCK_FILE, folder.where)
            refuse_other_versions(folder.path, mark, folder.where)
        remove_partial_files(folder.path)
        folder.write_file(FORMAT_FILE, mark.to_bytes())
        folder.write_file(LOCK_FILE, lock_text(plan.study).encode())
    except BaseException:
        folder.close()
        raise
    return folder


def _open_remote(wanted: Uri, fresh: bool) -> OpenRemoteRun:
    """Take the run, waiting for a driver that may have died, and copy its record here."""
    store = _free_store(wanted) if fresh else Store(wanted)
    _refuse_something_else(wanted, _strangers(store.entries()))
    lease = Lease(store, tell=_tell, on_lost=_end_session)
    try:
        names = store.entries()
        remove(working_folder(store.uri))  # of a driver that died
        copy_record(store, names, working_folder(store.uri))
    except BaseException:
        lease.release()
        raise
    return OpenRemoteRun(store, lease, is_resumed=LOCK_FILE in names)


def _free_store(wanted: Uri) -> Store:
    """``wanted`` if nothing is there, else ``wanted-2``, ``wanted-3``, ..."""
    names = (f"-{number}" if number > 1 else "" for number in itertools.count(1))
    stores = (Store(wanted.beside(suffix)) for suffix in names)
    return next(store for store in stores if not store.entries())


def _strangers(names: Mapping[str, Entry]) -> list[str]:
    """What is there if it is no run."""
    return [] if LOCK_FILE in names else sorted(n for n in names if not n.startswith("."))


def _new_folder(wanted: Path) -> Path:
    """``wanted`` if it is free, else ``wanted-2``, ``wanted-3``, ...: made here, so ours alone."""
    names = (f"-{number}" if number > 1 else "" for number in itertools.count(1))
    for path in (wanted.with_name(wanted.name + suffix) for suffix in names):
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("the names never end")


def _visible(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))


def _refuse_something_else(where: object, found: list[str]) -> None:
    if found:
        raise RunRefusedError(
            f"{where}: a run is kept in a folder of its own, but this one holds {found[0]} and no "
            f"{LOCK_FILE}; give another folder with --out"
        )


def _end_session() -> None:
    _thread.interrupt_main(signal.SIGTERM)  # as a scheduler would: at a safe point


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _refuse_other_study(plan: Plan, lock_file: Path, where: object) -> None:
    before = dict(_flat(_parse(lock_file.read_text(encoding="utf-8"))))
    now = dict(_flat(_parse(lock_text(plan.study))))
    other = [
        f"{name}: {before.get(name, 'absent')} there, {now.get(name, 'absent')} here"
        for name in dict.fromkeys([*now, *before])
        if before.get(name, "absent") != now.get(name, "absent") and name not in FREE_FIELDS
    ]
    if other:
        more = f"; and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        raise RunRefusedError(
            f"{where}: a run is resumed only by the same study, but this one differs "
            f"in {'; '.join(other[:_SHOWN])}{more}. Start anew beside it with --fresh, or "
            f"elsewhere with --out DIR"
        )


def _parse(text: str) -> Mapping[str, Any]:
    # Both studies are read from text, so that a number written in two ways is no difference.
    values: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
