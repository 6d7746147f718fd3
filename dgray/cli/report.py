"""``python -m dgray.report RUN``: rebuild the report of a run from its rows, without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dgray.cli.command import exit_status
from dgray.errors import RunRefusedError
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Store
from dgray.record.storage.working_copy import copy_to_read, publish_report, reading
from dgray.reporting.build import Report, build_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 if the store fails, 2 if refused."""
    parser = argparse.ArgumentParser(
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
    args = parser.parse_args(arguments)
    return exit_status(lambda: _report(args.run, args.out))


def _report(run: str, out: Path | None) -> int:
    where, report = _build(location(run), out)
    for warning in report.warnings:
        print(warning)
    for statement in report.finding.statements:
        print(statement.text)
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
    if out.exists() and next(out.iterdir(), None) is not None:
        raise RunRefusedError(f"{out}: --out must be a new or empty folder, but it holds files")
    copy_to_read(Store(place), out)
    return out, build_report(out)
