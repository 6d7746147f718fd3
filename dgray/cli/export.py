"""``dgray export``: a corrected model of a run in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import click

from dgray.cli.command import Command
from dgray.cli.sample import guidance_weight


@click.command(
    cls=Command,
    examples=[
        "dgray export runs/digits best exported/digits",
        "dgray export runs/overfit 'kl width=64 num_real=100' exported/kl --guidance-weight 0.5",
    ],
)
@click.argument("run", metavar="RUN")
@click.argument("trial", metavar="TRIAL|best")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--replicate",
    type=click.IntRange(min=0),
    default=0,
    metavar="R",
    help="Replicate whose networks are written (default: 0).",
)
@click.option(
    "--guidance-weight",
    type=guidance_weight,
    default=None,
    metavar="W|calibrated",
    help="Guidance weight (default: of the weights that the study evaluated, the one that is best "
    "on the validation split).",
)
def export(
    *, run: str, trial: str, out: Path, replicate: int, guidance_weight: float | str | None
) -> int:
    """Write a corrected denoiser of a run to a folder of its own.

    RUN is a folder or a URI. TRIAL is a name or id as `dgray show` prints it, or best. OUT is a
    new or empty folder, in which guidance.json describes base, correction, guidance weight and
    interval, and *.safetensors hold the weights; a base of diffusers is referred to by its path.
    `dgray.load_exported(OUT)` loads it in Python without the run. Rejection and metropolis select
    samples and have no denoiser; use `dgray sample`. Exit status: 0; 1 if a disk or
    store fails; 2 if the run, the model or OUT is refused.
    """
    from dgray.cli.write_export import write_export

    return write_export(run, trial, out, replicate=replicate, weight=guidance_weight)
