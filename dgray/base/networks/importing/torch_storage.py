"""Reader of tensors in a plain pickle, without torch's loader.

Such a storage is in the format of ``torch.save`` before its zip files: five pickles (a magic
number, 1001, facts about the machine, a reference to the storage, its key), a count, raw
little-endian numbers. torch's ``_load_from_bytes`` executes what these pickles request;
``torch.load(weights_only=True)`` accepts more than a storage, allocates the memory that a file
claims, and could execute code before torch 2.10 (CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from dgray.base.networks.importing.inert_pickle import Call, Global, Persistent, read_inert
from dgray.errors import PickleError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of torch.save
PROTOCOL_VERSION = 1001
COUNT = struct.Struct("<q")
MAX_OPCODES = 100  # of each pickle of a storage; torch writes 30
MAX_DIMENSIONS = 8  # of a tensor; weights of networks have 4
STORAGES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "torch.FloatStorage": torch.float32,
        "torch.DoubleStorage": torch.float64,
        "torch.HalfStorage": torch.float16,
        "torch.BFloat16Storage": torch.bfloat16,
        "torch.LongStorage": torch.int64,
        "torch.IntStorage": torch.int32,
        "torch.ShortStorage": torch.int16,
        "torch.CharStorage": torch.int8,
        "torch.ByteStorage": torch.uint8,
        "torch.BoolStorage": torch.bool,
    }
)
LOAD_FROM_BYTES = "torch.storage._load_from_bytes"
REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
TENSOR_GLOBALS = frozenset({LOAD_FROM_BYTES, REBUILD_TENSOR, REBUILD_PARAMETER})


def read_storage(blob: bytes) -> Tensor:
    """Return the numbers of a storage of any device, as a vector on the CPU.

    Raises:
        PickleError: if the bytes are not exactly one plain storage.
    """
    file = io.BytesIO(blob)
    read_next = partial(read_inert, file, allowed=(), max_opcodes=MAX_OPCODES)
    if read_next() != MAGIC_NUMBER:
        raise PickleError(
            "a tensor's storage must begin with the magic number of torch.save, but this one does "
            "not; save the network again with EDM's code"
        )
    version = read_next()
    machine = read_next()
    if version != PROTOCOL_VERSION or not isinstance(machine, dict):
        raise PickleError(
            f"a tensor's storage must have version {PROTOCOL_VERSION} of torch's format and a "
            "dictionary of facts about the machine, but this one does not"
        )
    if machine.get("little_endian") is not True:
        raise PickleError(
            "a tensor's storage must be little-endian, but this one was written on a big-endian "
            "machine; save the network again on a little-endian one"
        )
    reference = read_next(allowed=STORAGES, with_persistent=True)
    dtype, key, count = _reference(reference)
    if read_next() != [key]:
        raise PickleError(
            f"a tensor's storage must list its own key {key[:40]!r} and no other, but this one "
            "does not; the file may be damaged"
        )
    start = file.tell()
    if len(blob) < start + COUNT.size or COUNT.unpack_from(blob, start) != (count,):
        raise PickleError(
            f"a tensor's storage must state its count of {count} numbers a second time before "
            "the numbers, but this one does not; the file may be cut short"
        )
    data = memoryview(blob)[start + COUNT.size :]
    if len(data) != count * dtype.itemsize:
        raise PickleError(
            f"a tensor's storage of {count} numbers of {dtype} must have {count * dtype.itemsize} "
            f"bytes, but {len(data)} follow"
        )
    if dtype == torch.bool and not set(bytes(data)) <= {0, 1}:
        raise PickleError("boolean numbers of a tensor must be 0 or 1, but some are not")
    if not count:
        raise PickleError(
            "a tensor's storage must hold at least one number, but this one is empty"
        )
    return torch.frombuffer(bytearray(data), dtype=dtype)


def _reference(reference: Any) -> tuple[torch.dtype, str, int]:
    """Return type, key and count of ('storage', type, key, location, count, view)."""
    match reference:
        case Persistent(identity=("storage", Global() as kind, str(key), str(), int(count), None)):
            return STORAGES[str(kind)], key, count
    raise PickleError(
        "the storage of a tensor must be a plain storage of torch and not a view of another one"
    )


def read_tensor(call: Any, seen: set[int]) -> Tensor:
    """Return the tensor, or parameter, that ``call`` would rebuild.

    Args:
        call: record of the call.
        seen: ids of the storages of other tensors; the id of its own is added.

    Raises:
        PickleError: if it is no tensor, or not its whole storage in row-major order, or another
            tensor has the same storage.
    """
    if _is(call, REBUILD_PARAMETER) and call.arguments:
        call = call.arguments[0]
    if not _is(call, REBUILD_TENSOR):
        raise PickleError(f"a weight must be a tensor, not {_name(call)}")
    match call.arguments[:4]:
        case (Call(arguments=(bytes(blob),)) as storage, int(offset), tuple(size), tuple(stride)):
            if _is(storage, LOAD_FROM_BYTES):
                if id(blob) in seen:
                    raise PickleError("a file must not store several weights in the same numbers")
                seen.add(id(blob))
                values = read_storage(blob)
                _check_view(len(values), offset, size, stride)
                return values.reshape(size)
    raise PickleError(
        "a tensor must be rebuilt from a storage, an offset, a size and strides, but this one has "
        f"{len(call.arguments)} arguments of other types"
    )


def _check_view(count: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> None:
    """Check that a tensor is its whole storage in row-major order.

    Sizes are printed only after they have been checked to be numbers: nested tuples that share
    their entries take no memory, but their text could fill it.
    """
    plain = all(type(n) is int and 0 <= n < 2**63 for n in (*size, *stride, abs(offset)))
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS or not plain:
        raise PickleError(
            f"a tensor must have as many sizes as strides, at most {MAX_DIMENSIONS}, all of them "
            "whole numbers >= 0, but this one has "
            f"{len(size)} sizes and {len(stride)} strides"
        )
    expected = [math.prod(size[i + 1 :]) for i in range(len(size))]
    # the stride of a dimension with at most one entry has no meaning
    fits = all(
        step == whole or length <= 1
        for length, step, whole in zip(size, stride, expected, strict=True)
    )
    if offset != 0 or math.prod(size) != count or not fits:
        raise PickleError(
            f"a tensor must be its whole storage in row-major order, but one of size {size}, "
            f"strides {stride} and offset {offset} has a storage of {count} numbers"[:400]
        )


def _is(value: Any, name: str) -> bool:
    return isinstance(value, Call) and str(value.function) == name


def _name(value: Any) -> str:
    return str(value.function) if isinstance(value, Call) else type(value).__name__
