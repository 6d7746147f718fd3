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
        "dgray report runs/overfit --watch --port 8600",
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
    help="Write no report; the same as the command dgray check RUN.",
)
@click.option(
    "--all-scalars",
    is_flag=True,
    help="TensorBoard: write every metric of every setting; default: a dozen curves per trial.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Show the report of a running study on a page of this machine, which follows its rows. "
    "The run is only read. Ctrl-C ends it (exit status 0).",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port of --watch on 127.0.0.1; default: a free one.",
)
def report(
    *, run: str, out: Path | None, check: bool, all_scalars: bool, watch: bool, port: int
) -> int:
    """Rebuild the report of a run from its rows.

    RUN is a folder or a URI. Needs neither torch nor Ray. Exit status: 0; 1 if the store fails,
    or if --check finds a damaged record; 2 if the run is refused.
    """
    if watch:
        if check or all_scalars or out is not None:
            raise click.UsageError("--watch excludes --check, --all-scalars and --out")
        from dgray.cli.live_report import watch as watch_run

        return watch_run(run, port)
    if port:
        raise click.UsageError("--port is an option of --watch")
    if check and (all_scalars or out is not None):
        raise click.UsageError("--check excludes --all-scalars and --out")
    from dgray.cli import rebuild_report

    return (
        rebuild_report.check(run)
        if check
        else rebuild_report.rebuild(run, out, all_scalars=all_scalars)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``python -m dgray.report`` and return its exit status."""
    return run_command(report, arguments, "python -m dgray.report")
