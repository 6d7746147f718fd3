"""Checks all records of a run, and sets damaged ones aside before the run is resumed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dgray.errors import RecordError
from dgray.record.planned import read_planned
from dgray.record.provenance import artifacts_of, last_outcome
from dgray.record.run_files import FORMAT_FILE, LOCK_FILE, PLANNED_FILE, PROVENANCE_FILE
from dgray.record.run_folder import RunFolder, artifact_name
from dgray.record.run_format import read_mark
from dgray.record.tables import part_name

if TYPE_CHECKING:
    from dgray.plan.plan import Trial

MISSING = "missing"
_TABLES = ("rows", "samples", "losses")
_RECORD = re.compile(
    r"(run|provenance|planned)\.json|study\.lock\.yaml|(rows|samples|losses)/[^./][^/]*\.parquet|"
    r"checkpoints/[^./][^/]*\.safetensors|artifacts/[^./][^/]*|search/[^./][^/]*/[^./][^/]*\.json"
)


@dataclass(frozen=True)
class RecordState:
    """Result of the check of one record.

    Attributes:
        name: name relative to the run.
        has_checksum: False for records of runs that were started before records had one.
        reason: why it is damaged; None if it is intact as far as it can be checked.
    """

    name: str
    has_checksum: bool
    reason: str | None = None


def record_names(folder: RunFolder) -> list[str]:
    """Return the names of the records in the local folder, and those that every run has."""
    paths = (path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*"))
    names = {name for name in paths if _RECORD.fullmatch(name)}
    return sorted(names | {FORMAT_FILE, LOCK_FILE, PROVENANCE_FILE})


def missing_records(folder: RunFolder, stored: Collection[str] = ()) -> list[str]:
    """Return the names of records that other records name and that do not exist.

    Args:
        folder: folder of the run.
        stored: names of the records that are in an object store.
    """
    names = folder.listed_files()
    if names and folder.files.seals.is_required:  # not begun by an older version
        names |= {FORMAT_FILE, LOCK_FILE, PROVENANCE_FILE, PLANNED_FILE}
        names |= set(map(artifact_name, artifacts_of(folder.files)))
        is_complete = last_outcome(folder.files) == "complete"
        names |= set(_events(folder, is_complete))
        if is_complete:
            names |= {f"rows/{part}.parquet" for part in folder.parts_without_rows()}
            names |= set(_planned_rows(folder))
    records = filter(_RECORD.fullmatch, names)  # and no path that leads out of the run
    return sorted(name for name in records if name not in stored and not folder.files.has(name))


def _planned_rows(folder: RunFolder) -> Iterator[str]:
    with contextlib.suppress(RecordError):
        planned = read_planned(folder.files)
        for trial in () if planned is None else planned.trials:
            yield from (f"rows/{part_name(trial.id, epoch)}.parquet" for epoch in trial.epochs)


def _events(folder: RunFolder, is_complete: bool) -> Iterator[str]:
    """Yield the events of searches up to the last one that exists."""
    for cell in (folder.path / "search").glob("[!.]*"):
        yield f"search/{cell.name}/cell.json"
        numbers = [int(path.name[:6]) for path in cell.glob("[0-9]" * 6 + "-*.json")]
        kinds = ("asked", "told") if is_complete else ("asked",)
        for number in range(max(numbers, default=-1) + 1):
            yield from (f"search/{cell.name}/{number:06d}-{kind}.json" for kind in kinds)


def check_records(folder: RunFolder, names: Iterable[str]) -> Iterator[RecordState]:
    """Yield the state of records of a run; names of other files are skipped."""
    for name in filter(_RECORD.fullmatch, names):
        try:
            yield RecordState(name, _check(folder, name))
        except RecordError as error:
            yield RecordState(name, False, error.reason)


def set_damaged_aside(folder: RunFolder) -> None:
    """Move damaged records of a run to ``RUN/damaged``, so that they are computed again.

    If a record of a checkpoint is damaged or missing, its rows are moved too: the checkpoint is
    incomplete. ``RunFolder.left_out`` then lists the records.
    """
    damaged = [s for s in check_records(folder, record_names(folder)) if folder.files.has(s.name)]
    lost = [
        RecordState(name, False, MISSING)
        for name in missing_records(folder, stored_records(folder))
    ]
    for state in (*damaged, *lost):
        if state.reason is None:
            continue
        folder.files.left_out[state.name] = state.reason
        if state.reason != MISSING:
            folder.files.set_aside(state.name)
        kind, _, file = state.name.partition("/")
        rows = f"rows/{Path(file).stem}.parquet"
        if kind in ("samples", "losses", "checkpoints") and folder.files.has(rows):
            folder.files.set_aside(rows)


def set_outdated_aside(folder: RunFolder, trials: Iterable[Trial]) -> None:
    """Move rows of trials for which this version of dgray plans more settings to ``RUN/damaged``.

    The study and the ids of the trials are the same as before, so that nothing else shows it.
    """
    planned = None
    with contextlib.suppress(RecordError):
        planned = read_planned(folder.files)
    counts = {} if planned is None else {trial.id: trial.rows for trial in planned.trials}
    for trial in trials:
        count = trial.replicates * len(trial.settings)
        before = counts.get(trial.id, count)
        for epoch in trial.epochs if before < count else ():
            name = f"rows/{part_name(trial.id, epoch)}.parquet"
            if folder.files.has(name):
                reason = f"it has {before} rows, but this version of dgray plans {count}"
                folder.files.left_out[name] = reason
                folder.files.set_aside(name)


def stored_records(folder: RunFolder) -> Collection[str]:
    """Return the names of the records in the object store of a run; none if it has no store."""
    mirror = folder.files.mirror
    return () if mirror is None else mirror.entries()


def _check(folder: RunFolder, name: str) -> bool:
    """Check one record and return whether it has a checksum."""
    content = folder.files.read_record(name)
    if content is None:
        raise RecordError(MISSING)
    has_checksum = folder.files.seals.check(content, name)
    kind, _, file = name.partition("/")
    if kind in _TABLES:
        folder.check_part(kind, Path(file).stem)
    elif name == FORMAT_FILE:
        read_mark(folder.files)
    elif name == PLANNED_FILE:
        read_planned(folder.files)
    elif name.endswith(".json"):
        folder.files.read_json(name)
    elif name == LOCK_FILE:
        read_lock(content)
    elif kind == "checkpoints" and not has_checksum:
        _check_length(content)
    return has_checksum


def read_lock(content: bytes) -> dict[str, object]:
    """Return the values in ``study.lock.yaml``.

    Raises:
        RecordError: it holds no mapping.
    """
    try:
        values = YAML(typ="safe", pure=True).load(content.decode())
    except (YAMLError, ValueError, RecursionError) as error:
        raise RecordError(f"damaged: it is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise RecordError("damaged: it must hold the fields of a study")
    return values


def _check_length(content: bytes) -> None:
    """Check that safetensors are as long as their header states."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
        is_whole = len(content) == 8 + length + max(ends)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise RecordError("damaged: it is no complete safetensors file")
