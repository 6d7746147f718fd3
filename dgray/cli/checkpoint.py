"""``dgray checkpoint`` and ``python -m dgray.checkpoint``: files of pretrained networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dgray.cli.command import Command, Group, run_command

_SOURCE = "a file, an https URL or a short name such as edm-cifar10-32x32-uncond-vp"


@click.group(
    cls=Group,
    examples=[
        "dgray checkpoint import edm-cifar10-32x32-uncond-vp.pkl edm-cifar10.safetensors",
        "dgray checkpoint info edm-cifar10.safetensors",
    ],
)
def checkpoint() -> None:
    """Import or describe a network file.

    No code in the file is executed. Exit status: 0; 1 if the disk is full; 2 if the file is
    refused.
    """


@checkpoint.command(
    "import",
    cls=Command,
    examples=["dgray checkpoint import edm-ffhq-64x64-uncond-vp.pkl edm-ffhq.safetensors"],
    help=f"Convert EDM's pickle to safetensors and JSON. FILE.pkl is {_SOURCE}.",
)
@click.argument("source", metavar="FILE.pkl")
@click.argument("out", metavar="OUT.safetensors", type=click.Path(path_type=Path))
def import_network(*, source: str, out: Path) -> int:
    """Convert EDM's pickle."""
    from dgray.cli import network_files

    return network_files.convert(source, out)


@checkpoint.command(
    "info",
    cls=Command,
    examples=["dgray checkpoint info edm-ffhq.safetensors"],
    help=f"Print the architecture and size of a network. FILE is {_SOURCE}.",
)
@click.argument("source", metavar="FILE")
def info(*, source: str) -> int:
    """Print the architecture and size of a network."""
    from dgray.cli import network_files

    return network_files.show(source)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``python -m dgray.checkpoint`` and return its exit status."""
    return run_command(checkpoint, arguments, "python -m dgray.checkpoint")
