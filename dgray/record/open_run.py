"""Opens the run folder of a study: a new one, or that of the same study, to be resumed.

A run in an object store is driven from a working copy on this machine
(``dgray.record.storage``). Nothing is deleted but half-written files and old working copies.
"""

from __future__ import annotations

import _thread
import itertools
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dgray.config.reading.load import lock_text
from dgray.errors import RunRefusedError, StoreError
from dgray.files import remove_partial_files
from dgray.plan.cells import cells_of
from dgray.plan.plan import Plan
from dgray.record.planned import PLANNED_FILE, Planned, planned_of
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import FORMAT_FILE, mark_here, refuse_other_versions
from dgray.record.run_lock import RunLock
from dgray.record.storage.lease import Lease, LeasedStore
from dgray.record.storage.location import Uri
from dgray.record.storage.store import Store
from dgray.record.storage.working_copy import copy_record, publish_report, remove, working_folder

LOCK_FILE = "study.lock.yaml"
# Fields that do not affect any metric: a run may be resumed with other values.
FREE_FIELDS = (
    "description",
    "resources.max_concurrent_trials",
    "resources.max_failures",
    "resources.sampling_actors",
    "resources.result_cache",
    "resources.trial_time_limit",
)
_MAX_SHOWN = 5


@dataclass(frozen=True)
class OpenRun:
    """Run folder that only this process writes, until ``close``.

    Attributes:
        folder: folder of the run; the working copy of a run in an object store.
        is_resumed: whether the run exists already, perhaps with rows of earlier sessions.
        lock: keeps other drivers out.
        store: object store of the run, if it is in one.
    """

    folder: RunFolder
    is_resumed: bool
    lock: RunLock | Lease
    store: Store | None = None

    @property
    def lost(self) -> str | None:
        """Reason why this process no longer owns the run; None while it does."""
        return self.lock.lost

    def publish_report(self) -> None:
        """Copy the report from the working copy to the object store, if there is one."""
        if self.store is not None:
            publish_report(self.store, self.folder.path)

    def close(self) -> None:
        """Release the lock and remove the working copy of a run in an object store."""
        self.lock.release()
        if self.store is not None:
            remove(self.folder.path)


def open_run(plan: Plan, out: Path | Uri | None, fresh: bool) -> OpenRun:
    """Create or resume the run of a plan, and lock it.

    Args:
        plan: plan of the study.
        out: place of the run; default ``runs/NAME``.
        fresh: never resume: append -2, -3, ... to the name until it is free.

    Raises:
        RunRefusedError: the place holds another study or other files, was written by other
            versions, is locked, or cannot be reached.
    """
    place = out or Path("runs") / plan.study.name
    if isinstance(place, Uri):
        try:
            return _prepared(plan, _open_remote(place, fresh))
        except StoreError as error:
            raise RunRefusedError(f"{error}. Nothing was started") from error
    path = _new_folder(place) if fresh else place
    path.mkdir(parents=True, exist_ok=True)
    is_resumed = (path / LOCK_FILE).exists()
    if not is_resumed:
        _refuse_other_files(path, [entry.name for entry in path.iterdir()])
    return _prepared(plan, OpenRun(RunFolder(path), is_resumed, RunLock(path)))


def _prepared(plan: Plan, run: OpenRun) -> OpenRun:
    """Check a locked run and write its format and study; close it if it is refused."""
    mark = mark_here(("torch", "optuna") if plan.study.domains else ("torch",))
    folder = run.folder
    try:
        if run.is_resumed:
            _refuse_other_study(plan, folder.path / LOCK_FILE, folder.where)
            refuse_other_versions(folder.path, mark, folder.where)
        remove_partial_files(folder.path)
        folder.files.write(FORMAT_FILE, mark.to_bytes())
        folder.files.write(LOCK_FILE, lock_text(plan.study).encode())
        folder.files.write(PLANNED_FILE, _planned(plan).to_bytes())
    except BaseException:
        run.close()
        raise
    return run


def _planned(plan: Plan) -> Planned:
    cells = cells_of(plan.study)
    # With a time budget a search may have ended before its last point.
    counts = {None if c.search.time_budget else c.search.num_trials for c in cells}
    return planned_of(plan.trials, len(cells), counts.pop() if len(counts) == 1 else None)


def _open_remote(uri: Uri, fresh: bool) -> OpenRun:
    """Take the lease of a run in an object store and copy its record to this machine."""
    store = _free_store(uri) if fresh else Store(uri)
    names = store.entries()
    if LOCK_FILE not in names:
        _refuse_other_files(uri, names)
    lease = Lease(store, notify=_print, on_lost=_interrupt)
    path = working_folder(store.uri)
    try:
        names = store.entries()
        remove(path)  # left by a driver that died
        copy_record(store, names, path)
    except BaseException:
        lease.release()
        raise
    folder = RunFolder(path, LeasedStore(store, lease), str(store.uri))
    return OpenRun(folder, LOCK_FILE in names, lease, store)


def _free_store(uri: Uri) -> Store:
    """Return the first of ``uri``, ``uri-2``, ``uri-3``, ... that holds no objects."""
    stores = (Store(uri.beside(suffix)) for suffix in _suffixes())
    return next(store for store in stores if not store.entries())


def _new_folder(path: Path) -> Path:
    """Create the first of ``path``, ``path-2``, ``path-3``, ... that does not exist."""
    for candidate in (path.with_name(path.name + suffix) for suffix in _suffixes()):
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        return candidate
    raise AssertionError("unreachable: there is always another suffix")


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in itertools.count(2))


def _refuse_other_files(where: object, names: Iterable[str]) -> None:
    visible = sorted(name for name in names if not name.startswith("."))
    if visible:
        raise RunRefusedError(
            f"{where}: a run needs a folder of its own, but this one holds {visible[0]} and no "
            f"{LOCK_FILE}; give another folder with --out"
        )


def _interrupt() -> None:
    _thread.interrupt_main(signal.SIGTERM)  # as a scheduler would: stops at a safe point


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _refuse_other_study(plan: Plan, lock_file: Path, where: object) -> None:
    before = dict(_flat(_parse(lock_file.read_text(encoding="utf-8"))))
    now = dict(_flat(_parse(lock_text(plan.study))))
    differences = [
        f"{name}: {before.get(name, 'absent')} there, {now.get(name, 'absent')} here"
        for name in dict.fromkeys([*now, *before])
        if before.get(name, "absent") != now.get(name, "absent") and name not in FREE_FIELDS
    ]
    if differences:
        num_hidden = len(differences) - _MAX_SHOWN
        more = f"; and {num_hidden} more" if num_hidden > 0 else ""
        raise RunRefusedError(
            f"{where}: a run can be resumed only with the same study, but this one differs "
            f"in {'; '.join(differences[:_MAX_SHOWN])}{more}. Start a new run beside it with "
            "--fresh, or elsewhere with --out DIR"
        )


def _parse(text: str) -> Mapping[str, Any]:
    # Both studies are parsed, so that 1.1 and 1.10 are the same number.
    values: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
