"""Rebuild the report of a run from its rows, or check its records; without torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from dgray.cli.output import printed
from dgray.data.summary import counted
from dgray.errors import OutputError, RunRefusedError
from dgray.files import output_folder
from dgray.record.inspect import MISSING, check_records, missing_records, record_names
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Store
from dgray.record.storage.working_copy import copy_to_read, publish_report, reading
from dgray.reporting.build import Report, build_report, refuse_other_folder
from dgray.reporting.legible import printable

# Without smoothing, which would bend the curves of a few checkpoints.
TENSORBOARD_PAGE = "http://127.0.0.1:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"


def check(run: str) -> int:
    """Check every record of a run; print damaged and missing ones, and return 1 if there are."""
    place = location(run)
    with reading(place) as folder:
        refuse_other_folder(folder)
        names = set(record_names(folder))
        if isinstance(place, Uri):
            names |= Store(place).entries().keys()  # checkpoints and artifacts are only there
        names |= set(missing_records(folder, names))
        states = list(check_records(folder, sorted(names)))
    num_missing = sum(state.reason == MISSING for state in states)
    damaged = [state for state in states if state.reason is not None]
    for state in damaged:
        print(f"{state.name}: {state.reason}")
    unsealed = sum(not state.has_checksum for state in states) - len(damaged)
    intact = counted(len(states) - len(damaged), "record is", "records are") + " intact"
    if unsealed:
        intact += f" ({unsealed} of them have no checksum, because the run is older than those)"
    print(f"{run}: {intact}, {len(damaged) - num_missing} damaged, {num_missing} missing")
    if damaged:
        print("To compute these records again, resume the study; reports leave them out")
    return 1 if damaged else printed()


def rebuild(run: str, out: Path | None, *, all_scalars: bool = False) -> int:
    """Rebuild the report of a run and print its statements.

    Args:
        run: folder or URI.
        out: for a run in an object store, the folder of a copy.
        all_scalars: write every metric of every setting to TensorBoard's files.
    """
    where, report = _build(location(run), out, all_scalars=all_scalars)
    for warning in report.warnings:
        print(printable(warning))
    for statement in report.finding.statements:
        print(printable(statement.text))
    if report.finding.method:
        print(report.finding.method)
    print(f"report:      {where}/report.html\ntable:       {where}/report.parquet")
    print(f"figures:     {where}/figures")
    if isinstance(where, Path):
        events = shlex.quote(f"{where}/tensorboard")
        print(f"TensorBoard: tensorboard --logdir {events} --host 127.0.0.1")
        print(f"             then open {TENSORBOARD_PAGE}")
    return 0


def _check_writable(run: Path) -> None:
    try:
        output_folder(run)
    except OutputError as error:
        raise RunRefusedError(
            f"{run}: the report is written into the run folder, but no file can be created in "
            "this one; copy it to a folder of your own"
        ) from error


def _build(place: Path | Uri, out: Path | None, *, all_scalars: bool) -> tuple[Path | Uri, Report]:
    """Build the report and return the place it was written to."""
    if out is None:
        if isinstance(place, Path) and place.is_dir():
            _check_writable(place)
        with reading(place) as run:
            report = build_report(run.path, where=run.where, all_scalars=all_scalars)
            if isinstance(place, Uri):
                publish_report(Store(place), run.path)
        return place, report
    if isinstance(place, Path):
        raise RunRefusedError(
            f"{place}: --out is for runs in an object store, but this run is a local "
            "folder; leave out --out, and the report is written into the folder"
        )
    out = output_folder(out)
    if next(out.iterdir(), None) is not None:
        raise RunRefusedError(f"{out}: --out must be a new or empty folder, but it holds files")
    copy_to_read(Store(place), out)
    return out, build_report(out, where=place, all_scalars=all_scalars)
