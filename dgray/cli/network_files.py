"""Import a published network, or describe a network file. No code in the file is executed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from dgray.cli.output import printed
from dgray.errors import NetworkError
from dgray.files import output_file


def convert(source: str, out: Path) -> int:
    """Convert EDM's pickle, a file, URL or short name, to safetensors and JSON."""
    with _refused():
        out = output_file(out)  # before a download
        _import(_find(source), out)
    return 0


def show(source: str) -> int:
    """Print the architecture and size of a network."""
    with _refused():
        path = _find(source)
        print(_describe(path, read_network(path)))
    return printed()


@contextmanager
def _refused() -> Iterator[None]:
    """Raise NetworkError in one line for any invalid value in the file."""
    try:
        yield
    except ValueError as error:
        raise NetworkError(" ".join(str(error).split())) from error


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
