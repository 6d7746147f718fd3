"""Opens the run folder of a study: a new one, or that of the same study, to be resumed.

A run in an object store is driven from a working copy on this machine
(``dgray.record.storage``). Nothing is deleted but half-written files and old working copies;
damaged records are moved to ``RUN/damaged`` and computed again.
"""

from __future__ import annotations

import _thread
import hashlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dgray.config.reading.load import Study, load_values, lock_text
from dgray.errors import RecordError, RunRefusedError, StoreError, StudyError
from dgray.files import output_folder, remove_partial_files, sync_folder
from dgray.plan.cells import cells_of
from dgray.plan.growth import FREE_FIELDS, Change, changes, flat, refusals
from dgray.plan.plan import Plan
from dgray.record.history import HistoryEntry, history_in, with_history
from dgray.record.inspect import read_lock, set_damaged_aside, set_outdated_aside
from dgray.record.planned import Planned, planned_of, read_planned
from dgray.record.provenance import read_provenance
from dgray.record.run_files import LOCK_FILE, SEALED_FORMAT, RunFiles, Seals, can_be_resumed
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import (
    RunMark,
    has_results,
    mark_here,
    read_mark,
    refuse_other_format,
    refuse_other_versions,
)
from dgray.record.run_lock import RunLock
from dgray.record.seal import Identity, sealed_yaml
from dgray.record.storage.lease import Lease, LeasedStore
from dgray.record.storage.location import Uri
from dgray.record.storage.store import Store
from dgray.record.storage.working_copy import copy_record, publish_report, remove, working_folder

_MAX_SHOWN = 5
_ELSEWHERE = "Start a new run beside it with --fresh, or elsewhere with --out DIR"


@dataclass(frozen=True)
class OpenRun:
    """Run folder that only this process writes, until ``close``.

    Attributes:
        folder: folder of the run; the working copy of a run in an object store.
        is_resumed: whether the run exists already, perhaps with rows of earlier sessions.
        lock: keeps other drivers out.
        store: object store of the run, if it is in one.
        history: studies of the run in order, this one last.
        is_changed: whether this study differs from the one before.
    """

    folder: RunFolder
    is_resumed: bool
    lock: RunLock | Lease
    store: Store | None = None
    history: tuple[HistoryEntry, ...] = ()
    is_changed: bool = False

    @property
    def is_grown(self) -> bool:
        """True if the run may hold records of other studies than this one."""
        return self.is_changed or len(self.history) > 1

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
    if path.is_dir() and os.access(path, os.R_OK):
        _refuse_other_files(path, [entry.name for entry in path.iterdir()])
    output_folder(path)
    lock = RunLock(path)
    try:  # another driver may have changed the folder before the lock was taken
        names = [entry.name for entry in path.iterdir()]
        _refuse_other_files(path, names)
    except BaseException:
        lock.release()
        raise
    return _prepared(plan, OpenRun(RunFolder(path), can_be_resumed(names), lock))


def _prepared(plan: Plan, run: OpenRun) -> OpenRun:
    """Check a locked run and write its format and study; close it if it is refused."""
    mark = mark_here(("torch", "optuna") if plan.study.domains else ("torch",))
    folder, text = run.folder, lock_text(plan.study)
    files = folder.files
    try:
        requested = _identity(read_lock(text.encode()))
        identity, history, changed = requested, [HistoryEntry.now()], False
        if run.is_resumed:
            refuse_other_format(files, folder.where)
            history, changed = _history(plan.study, requested, folder)
            refuse_other_versions(files, mark, folder.where)
            mark = replace(mark, format=_format_there(files, mark))
            identity = files.seals.identity or requested  # a run that grows keeps its first one
        files.seals = Seals(identity, mark.format >= SEALED_FORMAT)
        remove_partial_files(folder.path)
        if run.is_resumed:
            set_damaged_aside(folder)
            set_outdated_aside(folder, plan.trials)
        files.write_record(LOCK_FILE, partial(sealed_yaml, with_history(text, history)))
        mark.write(files)
        replace(_planned(plan), definition=requested.definition).write(files)
    except BaseException:
        run.close()
        raise
    return replace(run, history=tuple(history), is_changed=changed)


def _planned(plan: Plan) -> Planned:
    cells = cells_of(plan.study)
    # With a time budget a search may have ended before its last point.
    counts = {None if c.search.time_budget else c.search.num_trials for c in cells}
    return planned_of(plan.trials, len(cells), counts.pop() if len(counts) == 1 else None)


def _format_there(files: RunFiles, mark: RunMark) -> int:
    """Return the format of a run to be resumed: that in which it was started."""
    if not has_results(files) or files.seals.is_required:
        return mark.format
    try:
        there = read_mark(files)
    except RecordError:
        there = None
    return 1 if there is None else there.format


def _identity(values: Mapping[str, Any]) -> Identity:
    """Return the identity of the study with the content of its ``study.lock.yaml``."""
    fields = {name: value for name, value in flat(values).items() if name not in FREE_FIELDS}
    text = json.dumps(fields, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Identity(str(values["name"]), str(values["seed"]), digest)


def _open_remote(uri: Uri, fresh: bool) -> OpenRun:
    """Take the lease of a run in an object store and copy its record to this machine."""
    store = _free_store(uri) if fresh else Store(uri)
    names = store.entries()
    _refuse_other_files(uri, names)
    lease = Lease(store, notify=_print, on_lost=_interrupt)
    path = working_folder(store.uri)
    try:
        names = store.entries()  # another driver may have written before the lease was taken
        _refuse_other_files(uri, names)
        remove(path)  # left by a driver that died
        copy_record(store, names, path)
    except BaseException:
        lease.release()
        raise
    folder = RunFolder(path, LeasedStore(store, lease.name), str(store.uri))
    return OpenRun(folder, can_be_resumed(names), lease, store)


def _free_store(uri: Uri) -> Store:
    """Return the first of ``uri``, ``uri-2``, ``uri-3``, ... that holds no objects."""
    stores = (Store(uri.beside(suffix)) for suffix in _suffixes())
    return next(store for store in stores if not store.entries())


def _new_folder(path: Path) -> Path:
    """Create the first of ``path``, ``path-2``, ``path-3``, ... that does not exist."""
    for candidate in (path.with_name(path.name + suffix) for suffix in _suffixes()):
        try:
            output_folder(candidate.parent)
            candidate.mkdir()
        except FileExistsError:
            continue
        sync_folder(candidate.parent)
        return candidate
    raise AssertionError("unreachable: there is always another suffix")


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in itertools.count(2))


def _refuse_other_files(where: object, names: Iterable[str]) -> None:
    """Refuse a place without a run that holds other files."""
    visible = sorted(name for name in names if not name.startswith("."))
    if visible and not can_be_resumed(visible):
        raise RunRefusedError(
            f"{where}: a run needs a folder of its own, but this one holds {visible[0]} and no "
            f"{LOCK_FILE}; give another folder with --out"
        )


def _interrupt() -> None:
    _thread.interrupt_main(signal.SIGTERM)  # as a scheduler would: stops at a safe point


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _history(
    study: Study, requested: Identity, folder: RunFolder
) -> tuple[list[HistoryEntry], bool]:
    """Return the history of a run with a study that it can take, and whether that changed.

    A run without rows takes any study. If the lock file is damaged or missing, only the study
    that was requested last is taken.

    Args:
        study: study to be run.
        requested: its identity.
        folder: folder of the run.
    """
    has_rows = folder.has_rows()
    try:
        lock = (folder.files.read_record(LOCK_FILE) or b"").decode()
        values = read_lock(lock.encode())
    except RecordError:
        if has_rows and not _is_last(requested, folder.files):
            raise RunRefusedError(
                f"{folder.where}: a run can be resumed only with its current study, "
                f"because its {LOCK_FILE} is damaged or missing, but this one is of "
                f"{folder.files.seals.identity}, not of {requested}. {_ELSEWHERE}"
            ) from None
        return [HistoryEntry.now()], not has_rows
    changed = changes(flat(values), flat(read_lock(lock_text(study).encode())))
    history = history_in(lock) or [HistoryEntry(_started(folder.files))]
    if not changed:
        return history, False
    if not has_rows:
        return [HistoryEntry.now()], True
    _refuse(study, values, changed, folder.where)
    return [*history, HistoryEntry.now(changed)], True


def _refuse(
    study: Study, before: Mapping[str, Any], changed: Sequence[Change], where: object
) -> None:
    """Refuse changes that a run cannot take."""
    try:
        refused = list(refusals(load_values(before), study, changed))
    except StudyError:  # of another version of dgray
        refused = [f"{c.field}: {c.before} there, {c.now} here" for c in changed]
    if refused:
        num_hidden = len(refused) - _MAX_SHOWN
        more = f"; and {num_hidden} more" if num_hidden > 0 else ""
        raise RunRefusedError(
            f"{where}: a run can be resumed with the same study, or with one that adds values, "
            "settings, metrics, checkpoints or replicates, but this one differs in "
            f"{'; '.join(refused[:_MAX_SHOWN])}{more}. {_ELSEWHERE}"
        )


def _is_last(requested: Identity, files: RunFiles) -> bool:
    """Return whether a study is the one that was requested last, without the lock file."""
    try:
        planned = read_planned(files)
    except RecordError:
        planned = None
    return files.seals.identity in (None, requested) or (
        planned is not None and planned.definition == requested.definition
    )


def _started(files: RunFiles) -> str:
    """Return when the first session of a run without a history started."""
    sessions = read_provenance(files)["sessions"]
    first = sessions[0] if sessions and isinstance(sessions[0], dict) else {}
    return str(first.get("started_at") or "unknown")
