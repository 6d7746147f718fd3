"""Import of pickles in EDM's format: their content, and refusal of unsafe ones."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.importing.edm_pickle import ALLOWED, read_edm_pickle
from dgray.base.networks.importing.inert_pickle import Call, Global, read_inert
from dgray.base.networks.importing.torch_storage import read_storage, read_tensor
from dgray.errors import PickleError
from tests.base.networks.edm_records import (
    SOURCE,
    Called,
    Layer,
    as_tensor,
    legacy_blob,
    snapshot,
    stand_in,
)
from tests.base.networks.network_cases import Golden, tiny

Records = Callable[..., Any]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def globals_of(content: bytes) -> set[str]:
    """Return the global names in a protocol-4 pickle, according to Python's unpickler."""
    names = set()

    class Collector(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            names.add(f"{module}.{name}")
            return super().find_class(module, name)

    with contextlib.suppress(AssertionError):  # a stand-in was called; it has named all by then
        Collector(io.BytesIO(content)).load()
    return names


def test_a_network_comes_back(golden: Golden, records: Records, tmp_path: Path) -> None:
    content = snapshot(records(golden.module, golden.architecture))
    assert globals_of(content) <= ALLOWED
    imported = read_edm_pickle(write(tmp_path / "network.pkl", content))
    assert imported.architecture == golden.architecture
    assert list(imported.state) == list(golden.state)
    for name, weight in golden.state.items():
        assert torch.equal(imported.state[name], weight), name
    assert imported.source_sha256 == hashlib.sha256(SOURCE.encode()).hexdigest()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_and_a_bare_network(
    records: Records, tmp_path: Path, protocol: int
) -> None:
    module = tiny("DhariwalUNet", "iDDPMPrecond", model_channels=16)
    architecture = EdmArchitecture("iDDPMPrecond", {"img_resolution": 8, "img_channels": 2})
    record = records(module, architecture)
    path = write(tmp_path / "n.pkl", pickle.dumps(record, protocol))
    if protocol < 4:  # no Python that EDM runs on writes them; sets need a name there
        with pytest.raises(PickleError, match=r"builtin(s|__)\.set"):
            read_edm_pickle(path)
        return
    imported = read_edm_pickle(path)
    assert list(imported.state) == list(module.state_dict())
    assert next(iter(imported.state)) == "u"


def test_numpy_numbers_among_the_arguments(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalar = stand_in(monkeypatch, "numpy.core.multiarray", "scalar")  # as NumPy 1 calls it
    module = tiny()
    architecture = EdmArchitecture("EDMPrecond", {"img_resolution": 8, "img_channels": 2})
    kwargs = {
        "img_resolution": np.int64(8),
        "img_channels": Called(scalar, np.dtype("i4"), np.int32(2).tobytes()),
        "channel_mult": [np.int32(1), 2],
        "dropout": np.float32(0.25),
        "model_type": "SongUNet",
        "use_fp16": np.bool_(False),
        "label_dim": np.dtype(">i8").type(0),
    }
    record = records(module, architecture, _init_kwargs=kwargs)
    imported = read_edm_pickle(write(tmp_path / "n.pkl", snapshot(record)))
    expected = {"img_resolution": 8, "img_channels": 2, "channel_mult": (1, 2), "dropout": 0.25}
    expected |= {"model_type": "SongUNet", "use_fp16": False, "label_dim": 0}
    assert dict(imported.architecture.init_kwargs) == expected
    odd = kwargs | {"dropout": Called(scalar, np.dtype("U4"), b"none")}
    record = records(module, architecture, _init_kwargs=odd)
    with pytest.raises(PickleError, match="must be a plain number"):
        read_edm_pickle(write(tmp_path / "n.pkl", snapshot(record)))


def test_storages_from_a_gpu_come_to_the_cpu() -> None:
    values = torch.arange(6.0).reshape(2, 3)
    blob = legacy_blob(values, "cuda:0")
    assert_close(read_storage(blob), values.flatten())
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool):
        read = read_storage(legacy_blob(values.to(dtype), "cuda"))
        assert torch.equal(read, values.flatten().to(dtype))


def run_system(marker: Path) -> Called:
    return Called(os.system, f"touch {marker}")


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_the_outer_pickle_is_refused_by_name(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "executed"
    content = pickle.dumps({"ema": run_system(marker), "loss_fn": Called(eval, "1")}, protocol)
    with pytest.raises(PickleError, match=r"refers to .*eval, posix\.system; nothing was"):
        read_edm_pickle(write(tmp_path / "n.pkl", content))
    assert not marker.exists()
    pickle.loads(content)  # the attack is a real one
    assert marker.exists()


def test_old_opcodes_cannot_smuggle_code_either(tmp_path: Path) -> None:
    for content in (b"(S'true'\nios\nsystem\n.", b"(cos\nsystem\nS'true'\no.", b"\x82\x01."):
        with pytest.raises(PickleError, match=r"os\.system|EXT1|damaged"):
            read_edm_pickle(write(tmp_path / "n.pkl", content))


def test_code_in_a_storage_is_refused_by_name(
    records: Records, tmp_path: Path, reconstruct: Records
) -> None:
    marker = tmp_path / "executed"
    good = legacy_blob(torch.ones(4))
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    for blob in (
        pickle.dumps(run_system(marker)) + good,
        head + pickle.dumps(run_system(marker)),
        good.replace(b"ctorch\nFloatStorage\n", b"cposix\nsystem\n"),
    ):
        layer = Layer(
            reconstruct,
            "EDMPrecond",
            {
                "_parameters": OrderedDict(w=as_tensor(blob, offset=0, size=(4,), stride=(1,))),
                "_init_kwargs": {"img_resolution": 8, "img_channels": 1},
            },
        )
        with pytest.raises(PickleError, match=r"posix\.system"):
            read_edm_pickle(write(tmp_path / "n.pkl", snapshot(layer)))
    assert not marker.exists()


def test_references_to_the_outside_are_refused(tmp_path: Path) -> None:
    for content in (b"\x80\x04\x8c\x01xQ.", b"Pkey\n."):
        with pytest.raises(PickleError, match=r"outside of the pickle|PERSID"):
            read_edm_pickle(write(tmp_path / "n.pkl", content))


def shared_tuples(depth: int) -> tuple[Any, ...]:
    """Return nested tuples that share their items: small in memory, exponential in print."""
    made: tuple[Any, ...] = ()
    for _ in range(depth):
        made = made, made
    return made


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (4,), (0,)),  # one number, four times
        (0, (2, 2), (1, 1)),  # overlapping
        (0, (2, 2), (1, 2)),  # transposed
        (0, (8,), (1,)),  # more than there is
        (0, (2,), (1,)),  # less than there is
        (1, (3,), (1,)),
        (-1, (4,), (1,)),
        (0, (10**6, 10**6), (0, 0)),
        (0, (-2, -2), (-2, 1)),
        (0, (4,), ()),
        (0, (4.0,), (1,)),
        (0, (2**40, 0), (0, 1)),
        (0, (1,) * 9, (1,) * 9),  # more dimensions than any weight has
        (0, shared_tuples(60), (1,)),  # its text would be of 2^60 brackets
    ],
)
def test_tensors_must_be_their_whole_storage(offset: int, size: Any, stride: Any) -> None:
    content = pickle.dumps(
        as_tensor(legacy_blob(torch.ones(4)), offset=offset, size=size, stride=stride)
    )
    call = read_inert(io.BytesIO(content), allowed=ALLOWED)
    with pytest.raises(PickleError, match=r"a tensor must (be its whole|have as many)"):
        read_tensor(call, set())


def test_strides_of_single_entries_do_not_matter() -> None:
    blob = legacy_blob(torch.arange(4.0))
    content = pickle.dumps(as_tensor(blob, offset=0, size=(4, 1, 1), stride=(1, 4, 4)))
    call = read_inert(io.BytesIO(content), allowed=ALLOWED)
    assert_close(read_tensor(call, set()), torch.arange(4.0).reshape(4, 1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda blob: blob.replace(b"\x6c\xfc\x9c", b"\x6d\xfc\x9c", 1), "magic number"),
        (lambda blob: blob.replace(b"M\xe9\x03", b"M\xea\x03"), "must have version 1001"),
        (lambda blob: blob[:-1], "must have 16 bytes, but 15 follow"),
        (lambda blob: blob + b"\0", "must have 16 bytes, but 17 follow"),
        (lambda blob: blob[:100], "damaged or cut short"),
        (lambda blob: blob[:-20], "state its count of 4"),
        (lambda blob: blob.replace(b"little_endian", b"little_vndian"), "little-endian"),
        (lambda blob: blob.replace(b"Storage\n", b"Storagf\n"), r"torch\.FloatStoragf"),
        (lambda blob: blob.replace(b"K\x04N", b"J\xff\xff\xff\x7fN"), "state its count"),
        (lambda blob: blob.replace(b"K\x04N", b"K\x04K\x01"), "and not a view"),
        (lambda blob: b"", "damaged or cut short"),
    ],
)
def test_damaged_storages(change: Callable[[bytes], bytes], message: str) -> None:
    blob = legacy_blob(torch.ones(4))
    assert change(blob) != blob
    with pytest.raises(PickleError, match=message):
        read_storage(change(blob))


def test_truncated_files(records: Records, tmp_path: Path) -> None:
    content = snapshot(
        records(tiny(), EdmArchitecture("EDMPrecond", {"img_resolution": 8, "img_channels": 2}))
    )
    for length in (1, 10, 1000, len(content) // 2, len(content) - 1):
        with pytest.raises(PickleError, match="damaged or cut short"):
            read_edm_pickle(write(tmp_path / "n.pkl", content[:length]))
    with pytest.raises(PickleError, match="empty"):
        read_edm_pickle(write(tmp_path / "n.pkl", b""))
    with pytest.raises(PickleError, match="damaged"):
        read_edm_pickle(write(tmp_path / "n.pkl", b"PK\x03\x04" + bytes(100)))


def test_claims_of_size_take_no_memory() -> None:
    """Python's unpickler would allocate the claimed size of a memo entry, string or number."""
    huge = (2**62).to_bytes(8, "little")
    assert read_inert(io.BytesIO(b"\x80\x04Nr\xff\xff\xff\x7f."), allowed=()) is None
    for claim in (b"\x8e" + huge, b"\x8d" + huge, b"\x8b\xff\xff\xff\x7f", b"\x95" + huge):
        with pytest.raises(PickleError, match="damaged or cut short"):
            read_inert(io.BytesIO(b"\x80\x04" + claim), allowed=())


def test_one_storage_cannot_become_many_weights(reconstruct: Records, tmp_path: Path) -> None:
    shared = as_tensor(legacy_blob(torch.ones(1000)), offset=0, size=(1000,), stride=(1,))
    storage = shared.reduced[1][0]
    rebuild = torch._utils._rebuild_tensor_v2
    many = {
        f"w{i}": Called(rebuild, storage, 0, (1000,), (1,), False, OrderedDict())
        for i in range(50)
    }
    state = {"_parameters": many, "_init_kwargs": {"img_resolution": 8, "img_channels": 1}}
    content = snapshot(Layer(reconstruct, "EDMPrecond", state))
    with pytest.raises(PickleError, match="several weights in the same numbers"):
        read_edm_pickle(write(tmp_path / "n.pkl", content))


def test_layers_within_themselves(reconstruct: Records, tmp_path: Path) -> None:
    children: dict[str, Any] = {}
    kwargs = {"img_resolution": 8, "img_channels": 1}
    inner = Layer(reconstruct, "Block", {"_modules": {}})
    state = {"_modules": children, "_init_kwargs": kwargs}
    children |= {"a": inner, "b": inner}
    content = snapshot(Layer(reconstruct, "EDMPrecond", state))
    with pytest.raises(PickleError, match="a layer must occur once"):
        read_edm_pickle(write(tmp_path / "n.pkl", content))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_init_kwargs": {"img_resolution": 8}}, "must have img_channels"),
        ({}, "must store its arguments"),
        ({"_init_kwargs": {}, "_init_args": (8,)}, "must be keyword arguments"),
        ({"_init_kwargs": {"img_resolution": 8, "img_channels": [[[1]]]}}, "plain number"),
    ],
)
def test_records_that_are_no_network(
    reconstruct: Records, tmp_path: Path, state: dict[str, Any], message: str
) -> None:
    content = snapshot(Layer(reconstruct, "EDMPrecond", state))
    with pytest.raises(ValueError, match=message):
        read_edm_pickle(write(tmp_path / "n.pkl", content))


def test_snapshots_without_an_average(tmp_path: Path) -> None:
    path = write(tmp_path / "n.pkl", pickle.dumps({"G": 1, "D": 2}))
    with pytest.raises(PickleError, match=r'entry "ema", but .* has: G, D'):
        read_edm_pickle(path)
    with pytest.raises(PickleError, match="must be a record"):
        read_edm_pickle(write(path, pickle.dumps([1])))


def test_inert_values_equal_pythons() -> None:
    """All types of plain data, for protocols 4 and 5."""
    shared = [1, "é", b"\x00\xff"]
    content = {"a": (shared, shared), "b": {1, 2}, "c": frozenset({"x"}), "d": [None, True, -3]}
    content |= {"e": 2**70, "f": 1.5, "g": (), "h": {}, "i": "x" * 70_000, "j": (1, 2, 3, 4)}
    for protocol in (4, 5):
        for optimised in (False, True):
            data = pickle.dumps(content, protocol)
            data = pickletools.optimize(data) if optimised else data
            value = read_inert(io.BytesIO(data), allowed=())
            assert value == content
            assert value["a"][0] is value["a"][1]
    plain = {name: content[name] for name in "defghij"}
    for protocol in (0, 1, 2):
        assert read_inert(io.BytesIO(pickle.dumps(plain, protocol)), allowed=()) == plain


def test_calls_are_only_written_down() -> None:
    data = pickle.dumps(OrderedDict(a=1))
    call = read_inert(io.BytesIO(data), allowed={"collections.OrderedDict"})
    assert isinstance(call, Call)
    assert call.function == Global("collections", "OrderedDict")
    assert call.items == {"a": 1}
