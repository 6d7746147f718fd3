"""``dgray init``: write a study that fits images, a network, or a mixture."""

from __future__ import annotations

from pathlib import Path

import click

from dgray.cli.command import Command
from dgray.cli.engine_command import engine_command

_path = click.Path(path_type=Path)


@click.command(
    cls=Command,
    examples=[
        "dgray init --images photos",
        "dgray init --mixture --out mixture.yaml",
        "dgray init --points table.csv --label species",
        "dgray init --edm edm-afhqv2-64x64-uncond-vp.pkl --images afhqv2.zip",
        "dgray init --diffusers ddpm-cifar10-32 --out cifar10.yaml",
    ],
)
@click.option("--images", type=_path, metavar="FOLDER", help="Images: folder, zip or npz file.")
@click.option("--mixture", is_flag=True, help="Points of a Gaussian mixture of known density.")
@click.option("--points", type=_path, metavar="FILE", help="Points: npz, csv or parquet file.")
@click.option("--label", metavar="COLUMN", help="Column of --points with the classes.")
@click.option("--edm", type=_path, metavar="FILE", help="Base: network file of EDM or of dgray.")
@click.option("--diffusers", type=_path, metavar="FOLDER", help="Base: UNet2DModel of diffusers.")
@click.option("--out", type=_path, metavar="STUDY.yaml", help="File (default: NAME.yaml).")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@engine_command(interrupted="interrupted; nothing was written")
def init(
    *,
    images: Path | None,
    mixture: bool,
    points: Path | None,
    label: str | None,
    edm: Path | None,
    diffusers: Path | None,
    out: Path | None,
    force: bool,
) -> int:
    """Write a study that fits your data, and print its plan.

    The sizes of splits fit the images, the metrics are those that the data can give, and the
    study is as large as this machine completes in about a quarter of an hour. A network
    (--edm, --diffusers) is studied on --images, or on a data set of dgray of its shape.
    """
    from dgray.cli import write_study

    networks = [name for name in (edm, diffusers) if name is not None]
    of_points = mixture + (points is not None)
    if len(networks) > 1 or of_points > 1 or (of_points and (networks or images)):
        raise click.UsageError("give one of --images, --mixture, --points, --edm and --diffusers")
    if not (networks or images or of_points):
        raise click.UsageError(
            "give --images FOLDER, --mixture, --points FILE, --edm FILE or --diffusers FOLDER"
        )
    if label is not None and points is None:
        raise click.UsageError("--label names a column of --points FILE")
    data = write_study.Source(
        images=images, points=points, label=label, edm=edm, diffusers=diffusers
    )
    return write_study.write(data, out=out, force=force)
