"""Networks on disk: safetensors with a JSON file beside it, or EDM's pickles.

OUT.safetensors holds the state dict, OUT.json the architecture and the origin of the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.importing.edm_pickle import read_edm_pickle
from dgray.base.networks.preconditioning import Preconditioned
from dgray.errors import NetworkFileError
from dgray.files import parse_json, read_bounded, sha256_of, write_atomically

PICKLE, SAFETENSORS, DESCRIPTION = ".pkl", ".safetensors", ".json"
MAX_DESCRIPTION = 100_000  # bytes
MAX_HEADER = 1_000_000  # bytes; that of the largest network of EDM has 60,000
SHOWN = 3  # differences that an error lists


@dataclass(frozen=True)
class StoredNetwork:
    """Architecture and weights of a network.

    Attributes:
        architecture: architecture of the network.
        state: weights and buffers by name.
        origin: facts about its origin, for the JSON file.
    """

    architecture: EdmArchitecture
    state: Mapping[str, Tensor]
    origin: Mapping[str, Any] = field(default_factory=dict)


def read_network(path: Path) -> StoredNetwork:
    """Read the network of a file.

    Args:
        path: .safetensors with its .json beside it, or .pkl of EDM.

    Raises:
        ValueError: the file does not hold such a network.
        OSError: the file cannot be read.
    """
    if path.suffix == PICKLE:
        imported = read_edm_pickle(path)
        origin = {
            "file": path.name,
            "sha256": sha256_of(path),
            "module_src_sha256": imported.source_sha256,
        }
        return StoredNetwork(imported.architecture, imported.state, {"source": origin})
    if path.suffix != SAFETENSORS:
        raise NetworkFileError(
            f"a network must be a {SAFETENSORS} file with a {DESCRIPTION} file beside it, or a "
            f"{PICKLE} file of EDM, but got {path}"
        )
    description = path.with_suffix(DESCRIPTION)
    try:
        record = parse_json(read_bounded(description, MAX_DESCRIPTION))
    except ValueError as error:
        raise NetworkFileError(f"{description} is damaged: {error}") from error
    try:
        _check_header(path)
        state = safetensors.torch.load_file(path)
    except (ValueError, safetensors.SafetensorError) as error:
        raise NetworkFileError(f"{path} is damaged: {error}") from error
    architecture = EdmArchitecture.from_json(record)
    own = ("preconditioning", "init_kwargs", "num_parameters")
    rest = {name: value for name, value in record.items() if name not in own}
    return StoredNetwork(architecture, state, rest)


def _check_header(path: Path) -> None:
    """Check what the library does not: the size of the header, and that no name is given twice.

    The format begins with the length of a JSON header, eight bytes, little-endian.

    Raises:
        ValueError: the header is damaged.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"its header has {length:,} bytes, more than {MAX_HEADER:,}")
        parse_json(file.read(length))


def write_network(path: Path, network: StoredNetwork) -> None:
    """Write ``path`` (.safetensors) and the JSON file beside it, each atomically.

    Raises:
        NetworkFileError: the suffix is another, or the weights do not match the architecture.
    """
    if path.suffix != SAFETENSORS:
        raise NetworkFileError(f"the file to write must end in {SAFETENSORS}, not {path.name}")
    module = build_module(network)
    record = {
        **network.architecture.to_json(),
        "num_parameters": sum(weight.numel() for weight in module.parameters()),
        **network.origin,
    }
    state = {name: weight.contiguous() for name, weight in network.state.items()}
    content = safetensors.torch.save(state)
    text = json.dumps(record, indent=2)
    write_atomically(path, lambda file: file.write(content))
    write_atomically(path.with_suffix(DESCRIPTION), lambda file: file.write(text.encode() + b"\n"))


def build_module(network: StoredNetwork) -> Preconditioned:
    """Build the module with these weights, in float32, on the CPU.

    Raises:
        NetworkFileError: names, shapes or types of weights do not match the architecture.
    """
    module = _blank(network)
    expected = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    stored = {name: tuple(weight.shape) for name, weight in network.state.items()}
    wrong = [
        f"{name}: {stored.get(name, 'missing')} instead of {expected.get(name, 'nothing')}"
        for name in {**expected, **stored}
        if stored.get(name) != expected.get(name)
    ] + [name for name, weight in network.state.items() if not _is_number(weight)]
    if wrong:
        raise NetworkFileError(
            "weights must have the names and shapes of the architecture and be floating-point "
            f"and finite, but {len(wrong)} are not: {'; '.join(wrong[:SHOWN])}"
        )
    state = {name: weight.to(torch.float32) for name, weight in network.state.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module


def _is_number(weight: Tensor) -> bool:
    """Return whether the values of a weight are floating-point numbers and finite."""
    return weight.is_floating_point() and bool(torch.isfinite(weight.float()).all())


def build_denoiser(network: StoredNetwork, device: torch.device | str = "cpu") -> NetworkDenoiser:
    """Build the denoiser of a network: in evaluation mode, its weights frozen, float32.

    Raises:
        NetworkFileError: as ``build_module``.
    """
    module = build_module(network).to(device).eval().requires_grad_(False)
    architecture = network.architecture
    return NetworkDenoiser(module, architecture.shape, architecture.num_classes)


def _blank(network: StoredNetwork) -> Preconditioned:
    """Build the module without weights, unless its description claims far too many of them."""
    blocks, weights = network.architecture.num_blocks, len(network.state)
    if blocks > weights:
        raise NetworkFileError(
            f"{blocks} blocks must have as many weights, but there are {weights}"
        )
    try:
        with torch.device("meta"):  # without memory and time for initial weights
            return network.architecture.build()
    except (RuntimeError, ArithmeticError, LookupError, ValueError) as error:  # no layer has them
        raise NetworkFileError(f"no network has such an architecture: {error}") from error
