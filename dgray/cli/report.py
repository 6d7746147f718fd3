"""``python -m dgray.report RUN``: rebuild the report of a run from its rows, without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dgray.cli.command import Parser, exit_status
from dgray.cli.output import printed
from dgray.errors import RunRefusedError
from dgray.files import output_folder
from dgray.record.inspect import check_records, record_names
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Store
from dgray.record.storage.working_copy import copy_to_read, publish_report, reading
from dgray.reporting.build import Report, build_report, refuse_without_rows
from dgray.reporting.legible import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0; 1 if the store fails, or if ``--check`` finds a damaged record; 2 if the run is refused.
    """
    return exit_status(lambda: _run(_parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> int:
    return _check(args.run) if args.check else _report(args.run, args.out)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dgray.report",
        description="Rebuild the report of a run from its rows. Needs neither torch nor Ray.",
    )
    parser.add_argument("run", metavar="RUN", help="folder or URI of a run")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for a run in an object store: write a copy of its record and the report to DIR",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write no report; check every record of the run: its checksum, and whether it "
        "belongs to this run (exit status 1 if not)",
    )
    return parser


def _check(run: str) -> int:
    place = location(run)
    with reading(place) as folder:
        refuse_without_rows(folder)
        names = set(record_names(folder))
        if isinstance(place, Uri):
            names |= Store(place).entries().keys()  # checkpoints and artifacts are only there
        states = list(check_records(folder, sorted(names)))
    damaged = [state for state in states if state.reason is not None]
    for state in damaged:
        print(f"{state.name}: {state.reason}")
    unsealed = sum(not state.has_checksum for state in states) - len(damaged)
    intact = f"{len(states) - len(damaged)} records are intact"
    if unsealed:
        intact += f" ({unsealed} of them have no checksum, because the run is older than those)"
    print(f"{run}: {intact}, {len(damaged)} damaged")
    if damaged:
        print("To compute damaged records again, resume the study; reports leave them out")
    return 1 if damaged else printed()


def _report(run: str, out: Path | None) -> int:
    where, report = _build(location(run), out)
    for warning in report.warnings:
        print(printable(warning))
    for statement in report.finding.statements:
        print(printable(statement.text))
    if report.finding.method:
        print(report.finding.method)
    print(f"report:      {where}/report.html\ntable:       {where}/report.parquet")
    print(f"figures:     {where}/figures")
    if isinstance(where, Path):
        print(f"TensorBoard: tensorboard --logdir {where}/tensorboard")
    return 0


def _build(place: Path | Uri, out: Path | None) -> tuple[Path | Uri, Report]:
    """Build the report and return the place it was written to."""
    if out is None:
        with reading(place) as run:
            report = build_report(run.path)
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
    return out, build_report(out)
