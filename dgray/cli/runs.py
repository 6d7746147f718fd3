"""``dgray list`` and ``dgray show``: what runs hold, also those that are unfinished or damaged."""

from __future__ import annotations

import click

from dgray.cli.command import Command

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


@click.command(
    "list",
    cls=Command,
    examples=[
        "dgray list runs",
        "dgray list runs/overfit runs/digits s3://BUCKET/PATH",
        "dgray list runs --json",
    ],
)
@click.argument("places", metavar="[RUNS]...", nargs=-1)
@_json
def list_runs(*, places: tuple[str, ...], as_json: bool) -> int:
    """List runs: state, rows, best model, time and size.

    RUNS are run folders, folders that hold runs, or URIs of either (default: runs). Exit status:
    0; 1 if a run is damaged or cannot be read; 2 if there is no run.
    """
    from dgray.cli import runs_view

    return runs_view.list_runs(places or ("runs",), as_json=as_json)


@click.command(
    cls=Command,
    examples=[
        "dgray show runs/overfit",
        "dgray show runs/overfit runs/digits",
        "dgray show s3://BUCKET/PATH --json",
    ],
)
@click.argument("places", metavar="RUN...", nargs=-1, required=True)
@_json
def show(*, places: tuple[str, ...], as_json: bool) -> int:
    """Show runs with their trials and what is missing.

    The names of trials select one in other commands: dgray sample RUN --trial 'kl width=64'.
    Exit status: 0; 1 if a run is damaged or cannot be read; 2 if there is no run.
    """
    from dgray.cli import runs_view

    return runs_view.show_runs(places, as_json=as_json)
