"""Reasons why a run is incomplete: missing or failed rows, unfinished searches, damaged files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from dgray.data.summary import counted
from dgray.errors import RecordError
from dgray.record.inspect import missing_records
from dgray.record.planned import Planned, read_planned
from dgray.record.provenance import last_outcome
from dgray.record.run_files import PLANNED_FILE
from dgray.record.run_folder import RunFolder
from dgray.reporting.searches import SearchPoints
from dgray.reporting.table import StudyTable
from dgray.reporting.trial_names import name_of

_MAX_NAMED = 3  # checkpoints or files that one reason names
_LARGE = ("checkpoints/", "artifacts/")


def gaps(
    run: RunFolder,
    table: StudyTable,
    searches: Sequence[SearchPoints],
    stored: Collection[str] = (),
) -> tuple[str, ...]:
    """Return why the table of a run is not that of its whole study; empty if it is complete.

    Args:
        run: the run, or its part that is on this machine.
        table: its table.
        searches: its searches.
        stored: names of records that are in an object store, which ``run`` may lack.

    Runs of versions that did not record their plan are incomplete if their last session is, or
    if a checkpoint has files but no rows.
    """
    return tuple(_gaps(run, table, searches, stored))


def _gaps(
    run: RunFolder,
    table: StudyTable,
    searches: Sequence[SearchPoints],
    stored: Collection[str],
) -> Iterator[str]:
    planned = Planned(trials=())
    try:
        content = read_planned(run.files)
    except RecordError as error:
        yield f"{PLANNED_FILE} is {error.reason}; missing rows may be unnoticed"
    else:
        if content is None:
            yield from _last_session(run)
        planned = content or planned
    yield from _missing(run, table, planned, searches)
    failed = table.failures
    if len(failed):
        yield (
            f"{len(failed)} of {table.rows['trial'].nunique()} trials failed; the report and "
            "dgray show list the reasons"
        )
    yield from _unfinished(planned, searches)
    yield from _lost(run, stored)
    yield from (f"left out: {text}" for text in run.left_out)


def _last_session(run: RunFolder) -> Iterator[str]:
    outcome = last_outcome(run.files) or "complete"
    if outcome in ("running", "killed"):
        yield "the last session has not ended: it is running, or its process was killed"
    elif outcome != "complete":
        yield f"the last session ended as {outcome}"


def _missing(
    run: RunFolder, table: StudyTable, planned: Planned, searches: Sequence[SearchPoints]
) -> Iterator[str]:
    """Checkpoints without all rows: of the plan, of finished points, and those with files."""
    counts = Counter(zip(table.rows["trial"], table.rows["epoch"], strict=True))
    short: list[str] = []
    total = 0
    for trial in planned.trials:
        for epoch in trial.epochs:
            total += 1
            if counts[trial.id, epoch] < trial.rows:
                name, part = name_of(trial.label), _part(trial.id, epoch)
                short.append(f"{name} at epoch {epoch} (rows/{part})")
    points = [
        (str(trial), int(epoch))
        for search in searches
        for trial, epoch in search.done[["trial", "epoch"]].itertuples(index=False)
        if not pd.isna(epoch)
    ]
    total += len(points)
    expected = {_part(trial.id, epoch) for trial in planned.trials for epoch in trial.epochs}
    parts = {_part(*point) for point in points if not counts[point]}
    parts |= {f"{part}.parquet" for part in run.parts_without_rows()} - expected
    short += [f"rows/{part}" for part in sorted(parts)]
    if short:
        more = f" and {len(short) - _MAX_NAMED} more" if len(short) > _MAX_NAMED else ""
        of = f" of {total}" if total >= len(short) else ""
        noun = "checkpoint lacks" if len(short) == 1 and not of else "checkpoints lack"
        yield f"{len(short)}{of} {noun} rows: {'; '.join(short[:_MAX_NAMED])}{more}"


def _lost(run: RunFolder, stored: Collection[str]) -> Iterator[str]:
    """Yield missing records that others name; a copy of a run may lack all the large ones."""
    lost = [
        name
        for name in missing_records(run, stored)
        if not name.startswith("rows/")  # named above
        and (not name.startswith(_LARGE) or (run.path / name).parent.is_dir())
    ]
    if lost:
        more = f" and {len(lost) - _MAX_NAMED} more" if len(lost) > _MAX_NAMED else ""
        number = counted(len(lost), "file is", "files are")
        yield (
            f"{number} missing: {', '.join(lost[:_MAX_NAMED])}{more}; resume the study "
            "to compute what is missing again"
        )


def _unfinished(planned: Planned, searches: Sequence[SearchPoints]) -> Iterator[str]:
    absent = planned.num_searches - len(searches)
    if absent > 0:
        yield f"{absent} of {planned.num_searches} searches have no points"
    for search in searches:
        finished = int((search.points["state"] != "RUNNING").sum())
        total = max(planned.num_points or 0, len(search.points))
        if finished < total:
            yield f"search {search.label}: {finished} of {total} points are finished"


def _part(trial: str, epoch: int) -> str:
    return f"{trial}-{epoch:06d}.parquet"
