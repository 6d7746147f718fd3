"""``python -m dgray.report RUN``: rebuild the report of a run from its rows; no torch, no Ray."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dgray.record.run_lock import RunRefused
from dgray.record.storage.location import Uri, location
from dgray.record.storage.store import Store, StoreError
from dgray.record.storage.working_copy import copy_to_read, publish_report, reading
from dgray.reporting.build import NotARunError, build_report
from dgray.reporting.table import NoRowsError
from dgray.reporting.text.finding import Finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 if the store fails; 2 if there is nothing to report."""
    parser = argparse.ArgumentParser(prog="python -m dgray.report", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="folder or URI of a run")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="of a run in an object store: copy its record here and write the report here alone",
    )
    args = parser.parse_args(arguments)
    try:
        place = location(args.run)
        where, found = _report(place, args.out)
    except (NotARunError, NoRowsError, RunRefused) as error:
        print(error, file=sys.stderr)
        return 2
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    for statement in found.statements:
        print(statement.text)
    print(f"report:      {where}/report.html\ntable:       {where}/report.parquet")
    print(f"figures:     {where}/figures")
    if isinstance(where, Path):
        print(f"TensorBoard: tensorboard --logdir {where}/tensorboard")
    return 0


def _report(place: Path | Uri, out: Path | None) -> tuple[Path | Uri, Finding]:
    """Build it; where it is."""
    if out is None:
        with reading(place) as run:
            found = build_report(run.path).finding
            if isinstance(place, Uri):
                publish_report(Store(place), run.path)
        return place, found
    if isinstance(place, Path):
        raise RunRefused(f"{place}: --out is for a run in an object store; this report is in it")
    if out.exists() and next(out.iterdir(), None) is not None:
        raise RunRefused(f"{out}: --out must be a new or empty folder, but there are files in it")
    copy_to_read(Store(place), out)
    return out, build_report(out).finding
