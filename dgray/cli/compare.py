"""``dgray compare``: several runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from dgray.cli.command import Command


@click.command(
    cls=Command,
    examples=[
        "dgray compare runs/narrow runs/wide",
        "dgray compare runs/a runs/b s3://BUCKET/c --out comparison",
    ],
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write compare.html and compare.parquet to DIR.",
)
def compare(*, runs: tuple[str, ...], out: Path | None) -> int:
    """Compare runs with the first of them.

    Each RUN is a folder or a URI; runs may be unfinished and of different studies. Models of the
    same setting, and the best models of each objective, are compared: in pairs of replicates
    where the studies have the same seed, else with joint errors. Comparisons that are impossible
    are named with the reason. Exit status: 0; 1 if a store fails; 2 if a run is refused.
    """
    from dgray.cli import compare_view

    return compare_view.show(runs, out)
