"""Reader of the networks that NVIDIA published with EDM; no code in their files is executed.

Such a file is a plain pickle of {"ema": network, ...}. A network and each of its layers is a
record of source code, class name and state; EDM's loader executes that source. Here
``inert_pickle`` reads the weights and the arguments of the constructor from the records, and the
network is built from them (``dgray.base.networks.edm_architecture``).
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from torch import Tensor

from dgray.base.networks.edm_architecture import EdmArchitecture, Value
from dgray.base.networks.importing.inert_pickle import Call, read_inert
from dgray.base.networks.importing.torch_storage import TENSOR_GLOBALS, read_tensor
from dgray.errors import PickleError

RECORD = "torch_utils.persistence._reconstruct_persistent_obj"
MODULE_DICT = "torch.nn.modules.container.ModuleDict"
ORDERED_DICT = "collections.OrderedDict"
NUMPY_SCALARS = frozenset({"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"})
NUMPY_DTYPE = "numpy.dtype"
# Every name that an EDM pickle may contain; none is imported. Additions need a security review.
ALLOWED = TENSOR_GLOBALS | NUMPY_SCALARS | {RECORD, MODULE_DICT, ORDERED_DICT, NUMPY_DTYPE}
RECORD_VERSION = 6
NUMPY_CODES = frozenset({"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
BYTE_ORDERS = {"<": "<", ">": ">", "|": "<", "=": "<"}
MAX_ARGUMENTS = 64  # of a network, and numbers in one
MAX_WEIGHTS = 5000  # the largest network of EDM has 600
MAX_DEPTH = 20  # of layers within layers; EDM's networks have 4


@dataclass(frozen=True)
class ImportedNetwork:
    """Network read from a pickle.

    Attributes:
        architecture: architecture of the network.
        state: weights and buffers by name, in torch's order.
        source_sha256: SHA-256 of the source code in the file, which is not executed.
    """

    architecture: EdmArchitecture
    state: Mapping[str, Tensor]
    source_sha256: str


def read_edm_pickle(path: Path) -> ImportedNetwork:
    """Read the averaged network ("ema") of a training snapshot, or a network stored alone.

    Raises:
        PickleError: the file is damaged, or holds anything but such a network.
        ArchitectureError: the network is of an unknown kind.
        OSError: the file cannot be read.
    """
    if path.stat().st_size == 0:
        raise PickleError(f"a network must be a pickle, but {path} is empty; download it again")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = read_inert(cast(BinaryIO, mapped), allowed=ALLOWED)
    if isinstance(content, dict):
        if "ema" not in content:
            entries = ", ".join(str(name)[:40] for name in islice(content, 5))
            raise PickleError(f'a snapshot must have an entry "ema", but {path} has: {entries}')
        content = content["ema"]
    name, source, state = _record(content)
    architecture = EdmArchitecture(name, _arguments(state))
    weights: dict[str, Tensor] = {}
    for weight_name, weight in _weights(content, "", set()):
        weights[weight_name] = weight
        if len(weights) > MAX_WEIGHTS:
            raise PickleError(f"a network must have at most {MAX_WEIGHTS} weights, but has more")
    digest = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()
    return ImportedNetwork(architecture, weights, digest)


def _record(value: Any) -> tuple[str, str, dict[str, Any]]:
    """Return class name, source and state of a network or layer."""
    match value:
        case Call(arguments=({"type": "class", "version": int(version)} as meta,)) if (
            str(value.function) == RECORD
        ):
            if version != RECORD_VERSION:
                raise PickleError(f"a record must have version {RECORD_VERSION}, not {version}")
            match meta:
                case {"class_name": str(name), "module_src": str(source), "state": dict(state)}:
                    return name, source, state
    raise PickleError(
        "a network must be a record of class name, source and state, as EDM writes it, but this "
        f"is {type(value).__name__}"
    )


def _weights(value: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors of a layer and its sub-layers, in the order of a state dict."""
    if prefix.count(".") >= MAX_DEPTH:
        raise PickleError(f"a layer must be in at most {MAX_DEPTH} others, but {prefix!r} is not")
    _check_once(value, "a layer", prefix, seen)
    state = _layer_state(value, prefix)
    _check_once(state, "the state of a layer", prefix, seen)
    skipped = state.get("_non_persistent_buffers_set", set())
    if not isinstance(skipped, set):
        raise PickleError(f"{prefix}_non_persistent_buffers_set must be a set")
    for kind in ("_parameters", "_buffers"):
        for name, weight in _entries(state, kind, prefix, seen).items():
            if weight is None or (kind == "_buffers" and name in skipped):
                continue
            _check_once(weight, "a weight", f"{prefix}{name}", seen)
            yield f"{prefix}{name}", read_tensor(weight, seen)
    for name, layer in _entries(state, "_modules", prefix, seen).items():
        if layer is not None:
            yield from _weights(layer, f"{prefix}{name}.", seen)


def _check_once(value: Any, noun: str, name: str, seen: set[int]) -> None:
    """Check that a value was not read before, so that the time is linear in the file's size."""
    if id(value) in seen:
        raise PickleError(f"{noun} must occur once, but that of {name!r} does not")
    seen.add(id(value))


def _layer_state(value: Any, prefix: str) -> dict[str, Any]:
    if isinstance(value, Call) and str(value.function) == MODULE_DICT:
        if not isinstance(value.state, dict):
            raise PickleError(f"a ModuleDict must have a state, but {prefix!r} has none")
        return value.state
    return _record(value)[2]


def _entries(state: Mapping[str, Any], kind: str, prefix: str, seen: set[int]) -> dict[str, Any]:
    """Return one of torch's three dictionaries of a module, plain or ordered."""
    entries = state.get(kind)
    if entries is None:
        return {}
    _check_once(entries, kind, prefix, seen)
    is_call = isinstance(entries, Call)
    if is_call and str(entries.function) == ORDERED_DICT and not entries.arguments:
        entries = entries.items
    if not isinstance(entries, dict) or not all(
        isinstance(name, str) and name and "." not in name for name in entries
    ):
        raise PickleError(f"{prefix}{kind} must be a dictionary with names without dots as keys")
    return entries


def _arguments(state: Mapping[str, Any]) -> dict[str, Value]:
    """Return the arguments of the network's constructor."""
    if state.get("_init_args", ()) not in ((), []):
        raise PickleError("the arguments of a network must be keyword arguments, but some are not")
    arguments = state.get("_init_kwargs")
    if not isinstance(arguments, dict) or len(arguments) > MAX_ARGUMENTS:
        raise PickleError(
            f"a network must store its arguments (_init_kwargs), at most {MAX_ARGUMENTS} of them, "
            "but it does not"
        )
    return {str(name): _plain(value) for name, value in arguments.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return a number, name, or list of numbers, with NumPy scalars as Python numbers."""
    if isinstance(value, (list, tuple)) and len(value) <= MAX_ARGUMENTS:
        return [_plain_scalar(entry) for entry in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str | int | float | bool:
    match value:
        case str() | int() | float():
            return value
        case Call(arguments=(Call(arguments=(str(code), *_), state=state) as dtype, bytes(raw))):
            is_scalar = str(value.function) in NUMPY_SCALARS and str(dtype.function) == NUMPY_DTYPE
            order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
            if is_scalar and code in NUMPY_CODES and order in BYTE_ORDERS:
                kind = np.dtype(BYTE_ORDERS[order] + code)
                if len(raw) == kind.itemsize:
                    number: int | float | bool = np.frombuffer(raw, kind)[0].item()
                    return number
    raise PickleError(
        "an argument of a network must be a plain number, a name or a list of numbers, but one is "
        f"{type(value).__name__}"
    )
