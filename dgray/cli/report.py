"""``dgray report`` and ``python -m dgray.report``: the report of a run, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dgray.cli.command import Command, run_command


@click.command(
    cls=Command,
    examples=[
        "dgray report runs/overfit",
        "dgray report s3://BUCKET/PATH --out copy",
        "dgray report runs/overfit --check",
    ],
)
@click.argument("run", metavar="RUN")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For a run in an object store: write a copy of its record and the report to DIR.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Write no report; check every record of the run: its checksum, and whether it belongs "
    "to this run (exit status 1 if not).",
)
def report(*, run: str, out: Path | None, check: bool) -> int:
    """Rebuild the report of a run from its rows.

    RUN is a folder or a URI. Needs neither torch nor Ray. Exit status: 0; 1 if the store fails,
    or if --check finds a damaged record; 2 if the run is refused.
    """
    from dgray.cli import rebuild_report

    return rebuild_report.check(run) if check else rebuild_report.rebuild(run, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``python -m dgray.report`` and return its exit status."""
    return run_command(report, arguments, "python -m dgray.report")
