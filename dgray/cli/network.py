"""``python -m dgray.checkpoint``: import a published network, or describe a network file.

No code in the file is executed. Exit status: 0, or 2 if the file is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dgray
from dgray.base.networks.importing.sources import LICENCE, locate
from dgray.base.networks.importing.stored import (
    StoredNetwork,
    build_denoiser,
    build_module,
    read_network,
    write_network,
)
from dgray.cli.command import Parser, exit_status
from dgray.cli.output import printed
from dgray.errors import NetworkError
from dgray.files import output_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return exit_status(lambda: _run(_parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> int:
    try:
        out = output_file(args.out) if args.command == "import" else None  # before a download
        path = _find(args.source)
        if out is None:
            print(_describe(path, read_network(path)))
            return printed()
        _import(path, out)
    except ValueError as error:
        raise NetworkError(" ".join(str(error).split())) from error
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dgray.checkpoint",
        description="Import a published network, or describe a network file. No code in "
        "the file is executed.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    source = "file, https URL or short name (edm-cifar10-32x32-uncond-vp, ...)"
    command = commands.add_parser("import", help="convert EDM's pickle to safetensors and JSON")
    command.add_argument("source", metavar="FILE.pkl", help=source)
    command.add_argument("out", type=Path, metavar="OUT.safetensors", help="file to write")
    command = commands.add_parser("info", help="print the architecture and size of a network")
    command.add_argument("source", metavar="FILE", help=source)
    return parser


def _find(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_file():
        return path  # without a record of its SHA-256 beside it
    return locate(source, cache=None, sha256=None, log=lambda text: print(text, file=sys.stderr))


def _import(path: Path, out: Path) -> None:
    network = read_network(path)
    note = f"that of the source. {LICENCE}"
    origin = {**network.origin, "dgray_version": dgray.__version__, "licence": note}
    write_network(out, replace(network, origin=origin))
    facts = build_denoiser(network).facts
    channels, height, width = facts.shape
    print(
        f"{out} and {out.with_suffix('.json').name}\n"
        f"{channels} x {height} x {width} values (channels, height, width), "
        f"{facts.num_classes or 'no'} classes, noise levels {facts.sigma_min:.4g} to "
        f"{facts.sigma_max:.4g}\nlicence: {note}"
    )


def _describe(path: Path, network: StoredNetwork) -> str:
    module = build_module(network)
    record = {
        "file": str(path),
        **network.architecture.to_json(),
        "num_parameters": sum(weight.numel() for weight in module.parameters()),
        "num_tensors": len(network.state),
        **network.origin,
    }
    return json.dumps(record, indent=2)
