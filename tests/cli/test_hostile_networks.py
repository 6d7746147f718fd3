"""Hostile network files: each is refused in a line, within two seconds."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgray.cli.checkpoint import main
from tests.base.networks.edm_records import legacy_blob
from tests.base.networks.network_cases import TINY, tiny
from tests.cli.hostile import Refused, refused

__all__ = ["refused"]

SIZE = 2_000_000
PRIME = 2**61 - 1  # whole numbers that differ by it have the same hash


def text(value: str) -> bytes:
    """Opcode of a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def record(state: bytes) -> bytes:
    """Opcodes of a layer; its function is in memo 0."""
    fields = [text("type"), text("class"), text("version"), b"K\x06", text("module_src"), text("")]
    fields += [text("class_name"), text("EDMPrecond"), text("state"), state]
    return b"h\x00}(" + b"".join(fields) + b"u\x85R"


HEAD = b"\x80\x04" + text("torch_utils.persistence") + text("_reconstruct_persistent_obj")
HEAD += b"\x93\x940"
ARGUMENTS = b"}(" + text("img_resolution") + b"K\x08" + text("img_channels") + b"K\x01u"


def layers_of_one_state(count: int) -> bytes:
    """Layers that share one state of many entries: quadratic, if all are read."""
    entries = b"".join(text(f"p{i}") + b"N" for i in range(count))
    shared = text("_parameters") + b"}(" + entries + b"u"
    meta = record(b"}(" + shared + b"u").removeprefix(b"h\x00").removesuffix(b"R") + b"\x940"
    layers = b"".join(text(f"l{i}") + b"h\x00h\x01R" for i in range(count))
    modules = text("_modules") + b"}(" + layers + b"u"
    return HEAD + meta + record(b"}(" + text("_init_kwargs") + ARGUMENTS + modules + b"u") + b"."


def weights_of_one_storage(count: int, junk: int) -> bytes:
    """Weights that share one storage whose pickle is long: quadratic, if all are read."""
    blob = b"\x80\x02" + b"N0" * junk + legacy_blob(torch.ones(1))[2:]
    storage = text("torch.storage") + text("_load_from_bytes") + b"\x93"
    storage += b"B" + struct.pack("<I", len(blob)) + blob + b"\x85R\x940"
    rebuild = text("torch._utils") + text("_rebuild_tensor_v2") + b"\x93\x940"
    weight = b"h\x02(h\x01K\x00K\x01\x85K\x01\x85tR"
    weights = b"".join(text(f"p{i}") + weight for i in range(count))
    parameters = text("_parameters") + b"}(" + weights + b"u"
    state = b"}(" + text("_init_kwargs") + ARGUMENTS + parameters + b"u"
    return HEAD + storage + rebuild + record(state) + b"."


PICKLES: dict[str, Callable[[], bytes]] = {
    "4 million opcodes": lambda: b"\x80\x04" + b"N0" * (SIZE // 2) + b"N.",
    "4 million marks": lambda: b"\x80\x04" + b"(" * SIZE + b".",
    "nested tuples": lambda: b"\x80\x04)" + b"\x85" * SIZE + b".",
    "nested lists": lambda: b"\x80\x04" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "list in itself": lambda: b"\x80\x04]\x94h\x00a.",
    "keys of one hash": lambda: (
        b"}(" + b"".join(b"I%d\nN" % (i * PRIME) for i in range(1, 60_000)) + b"u."
    ),
    "indices of one hash": lambda: (
        b"N" + b"".join(b"p%d\n" % (i * PRIME) for i in range(1, 60_000)) + b"."
    ),
    "a long key, often": lambda: (
        b"\x80\x04X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"\x940}("
        + b"h\x00N" * 190_000 + b"u."
    ),
    "a long number, often": lambda: (
        b"\x80\x04\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"\x940}("
        + b"h\x00N" * 190_000 + b"u."
    ),
    "a long name, often": lambda: (
        b"\x80\x04X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"\x940"
        + b"h\x00h\x00\x930" * 90_000 + b"N."
    ),
    "many names": lambda: b"".join(b"cm%d\nn\n0" % i for i in range(90_000)) + b"N.",
    "a number of 4 MB": lambda: b"\x80\x04\x8b" + struct.pack("<i", SIZE) + b"\x7f" * SIZE + b".",
    "digits without end": lambda: b"I" + b"9" * SIZE + b"\n.",
    "index of 3,000 digits": lambda: b"Np" + b"9" * 3000 + b"\n.",
    "escape sequence": lambda: b"c\x1b[31m\nx\n.",
    "layers of one state": lambda: layers_of_one_state(60_000),
    "weights of one storage": lambda: weights_of_one_storage(20_000, 0),
    "weights of one long storage": lambda: weights_of_one_storage(20_000, 500_000),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_is_refused(name: str, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(PICKLES[name]())
    refused(main, "info", str(path))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """Description and weights of a network that is accepted."""
    module = tiny(img_channels=1)
    arguments = {**TINY, "img_channels": 1, "model_type": "SongUNet"}
    state = {name: weight.contiguous() for name, weight in module.state_dict().items()}
    description = {"preconditioning": "EDMPrecond", "init_kwargs": arguments}
    content = safetensors.torch.save(state)
    path = tmp_path_factory.mktemp("stored") / "network.safetensors"
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(description))
    assert main(["info", str(path)]) == 0  # imports parts of torch, a second
    return description, content


def with_header(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = change(content[8 : 8 + length].rstrip())
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def first_entry_again(header: bytes) -> bytes:
    name, entry = next(item for item in json.loads(header).items() if item[0] != "__metadata__")
    return header[:-1] + b"," + json.dumps({name: entry}).encode()[1:]


def with_offsets(offsets: list[int]) -> Callable[[bytes], bytes]:
    def change(header: bytes) -> bytes:
        entries = json.loads(header)
        next(iter(entries.values()))["data_offsets"] = offsets
        return json.dumps(entries).encode()

    return change


def filled(value: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        state = safetensors.torch.load(content)
        name = next(iter(state))
        state[name] = torch.full_like(state[name], value)
        return safetensors.torch.save(state)

    return change


SAFETENSORS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "name given twice": (lambda c: with_header(c, first_entry_again), "is given twice"),
    "overlap": (lambda c: with_header(c, with_offsets([0, 8])), "is damaged"),
    "outside": (lambda c: with_header(c, with_offsets([0, 10**12])), "is damaged"),
    "negative": (lambda c: with_header(c, with_offsets([-8, 0])), "is damaged"),
    "90 MB of header": (lambda c: with_header(c, lambda h: h + b" " * 90_000_000), "more than"),
    "claim of a header": (lambda c: struct.pack("<Q", 2**64 - 1) + c[8:], "more than 1,000,000"),
    "deep header": (lambda c: with_header(c, lambda h: b"[" * 100_000), "nested too deeply"),
    "nan in the header": (lambda c: with_header(c, lambda h: b'{"a":NaN}'), "NaN is no number"),
    "cut short": (lambda c: c[:-5], "is damaged"),
    "empty": (lambda c: b"", "is damaged"),
    "weights that are nan": (filled(float("nan")), "finite, but 1 are not"),
    "weights that are infinite": (filled(float("inf")), "finite, but 1 are not"),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_hostile_safetensors_file_is_refused(
    name: str, stored: tuple[dict[str, Any], bytes], tmp_path: Path, refused: Refused
) -> None:
    change, message = SAFETENSORS[name]
    path = tmp_path / "network.safetensors"
    path.write_bytes(change(stored[1]))
    path.with_suffix(".json").write_text(json.dumps(stored[0]))
    assert message in refused(main, "info", str(path))


DESCRIPTIONS: dict[str, tuple[Callable[[str], str], str]] = {
    "name given twice": (lambda j: j[:-1] + ', "preconditioning": "VPPrecond"}', "given twice"),
    "deep": (lambda j: '{"a":' * 15_000, "nested too deeply"),
    "50 MB": (lambda j: j[:-1] + f', "x": "{"a" * 50_000_000}"}}', "at most 100,000 bytes"),
    "5,000 digits": (lambda j: j[:-1] + f', "x": {"9" * 5000}}}', "is damaged"),
    "nan": (lambda j: j[:-1] + ', "x": NaN}', "NaN is no number"),
    "scale of 0": (lambda j: j.replace('"dropout"', '"sigma_data": 0, "dropout"'), "sigma_data"),
    "dropout of 5": (lambda j: j.replace('"dropout": 0.1', '"dropout": 5'), "dropout must be"),
    "no channels": (lambda j: j.replace("[1, 2]", "[0]"), "no network has"),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_hostile_description_is_refused(
    name: str, stored: tuple[dict[str, Any], bytes], tmp_path: Path, refused: Refused
) -> None:
    change, message = DESCRIPTIONS[name]
    path = tmp_path / "network.safetensors"
    path.write_bytes(stored[1])
    path.with_suffix(".json").write_text(change(json.dumps(stored[0])))
    assert message in refused(main, "info", str(path))


def test_pipes_are_refused(
    stored: tuple[dict[str, Any], bytes], tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(stored[1])
    os.mkfifo(path.with_suffix(".json"))
    assert "must be a regular file" in refused(main, "info", str(path))
    os.mkfifo(tmp_path / "network.pkl")
    refused(main, "info", str(tmp_path / "network.pkl"))
    refused(main, "info", "https://\x1b/")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_mutated_network_is_refused_or_valid(
    stored: tuple[dict[str, Any], bytes], tmp_path: Path, data: st.DataObject
) -> None:
    """Bytes of the header, of the description and of a pickle are replaced."""
    description, content = stored
    length = 8 + int.from_bytes(content[:8], "little")
    path = tmp_path / "network.safetensors"
    for file, original, end in (
        (path, content, length),
        (path.with_suffix(".json"), json.dumps(description).encode(), None),
        (path.with_suffix(".pkl"), weights_of_one_storage(1, 0), None),
    ):
        mutated = bytearray(original)
        last = (end or len(original)) - 1
        for _ in range(data.draw(st.integers(0, 3))):
            mutated[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
        file.write_bytes(mutated)
    assert main(["info", str(path)]) in (0, 2)
    assert main(["info", str(path.with_suffix(".pkl"))]) in (0, 2)
