"""Networks on disk and the command that imports them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import dgray
from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.importing.stored import (
    StoredNetwork,
    build_denoiser,
    build_module,
    read_network,
    write_network,
)
from dgray.cli.checkpoint import main
from dgray.errors import NetworkFileError
from dgray.files import sha256_of
from tests.base.networks.edm_records import snapshot
from tests.base.networks.network_cases import Golden


@pytest.fixture
def pickled(golden: Golden, records: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "network.pkl"
    path.write_bytes(snapshot(records(golden.module, golden.architecture)))
    return path


def test_import_then_load_gives_edms_numbers(
    golden: Golden, pickled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folder" / "network.safetensors"
    assert main(["import", str(pickled), str(out)]) == 0
    assert "CC BY-NC-SA 4.0" in capsys.readouterr().out
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["source"]["sha256"] == sha256_of(pickled)
    assert record["source"]["file"] == "network.pkl"
    assert record["dgray_version"] == dgray.__version__
    assert record["init_kwargs"] == golden.record["init_kwargs"]
    assert record["num_parameters"] == golden.record["parameters"]
    assert "CC BY-NC-SA 4.0" in record["licence"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "network.pkl"]
    for path in (out, pickled):
        denoise = build_denoiser(read_network(path))
        if golden.one_hot is not None:
            denoise = denoise.with_labels(golden.one_hot.argmax(1))
        denoised = denoise(golden.x.flatten(1), golden.sigma).reshape(golden.x.shape)
        difference = (denoised - golden.denoised).abs().amax((1, 2, 3))
        assert bool((difference < 1e-5 * golden.denoised.abs().amax((1, 2, 3))).all())
        assert not denoised.requires_grad
        assert not denoise.module.training
        assert denoise.num_classes == golden.record["init_kwargs"]["label_dim"]


def test_info(golden: Golden, pickled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(pickled)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["num_parameters"] == golden.record["parameters"]
    assert shown["init_kwargs"]["model_channels"] == 16
    assert shown["num_tensors"] == len(golden.state)


def test_refusals_are_one_line_and_status_2(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    command = [sys.executable, "-m", "dgray.checkpoint", "import", "evil.pkl", "out.safetensors"]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(dgray.__file__).parent.parent)},
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "os.system" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.pkl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nothing.pkl"], "there is no file nothing.pkl"),
        (["info", "edm-cifar10-32x32-uncond-pv"], "did you mean edm-cifar10-32x32-uncond-vp?"),
        (["import", "network.pkl", "out.pt"], "must end in .safetensors, not out.pt"),
        (["info", "list.pkl"], "must be a record"),
        (["info", "list.pt"], "must be a .safetensors file"),
        (["info", "lonely.safetensors"], "lonely.json"),
    ],
)
def test_wrong_arguments(
    arguments: list[str],
    message: str,
    pickled: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pickled.parent)
    for name in ("list.pkl", "list.pt", "lonely.safetensors"):
        Path(name).write_bytes(pickle.dumps([]))
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_weights_must_be_those_of_the_architecture(golden: Golden, tmp_path: Path) -> None:
    network = StoredNetwork(golden.architecture, golden.state)
    name = "model.map_layer0.weight"
    without = {key: value for key, value in golden.state.items() if key != name}
    for state, message in (
        (without, f"{name}: missing instead of"),
        ({**golden.state, "model.more": torch.ones(1)}, r"model.more: \(1,\) instead of nothing"),
        ({**golden.state, name: golden.state[name].T[:3]}, f"{name}: .* instead of"),
        ({**golden.state, name: golden.state[name].long()}, "must .* be floating-point"),
    ):
        with pytest.raises(NetworkFileError, match=message):
            build_module(replace(network, state=state))
        with pytest.raises(NetworkFileError, match=message):
            write_network(tmp_path / "n.safetensors", replace(network, state=state))
    assert not list(tmp_path.iterdir())


def test_half_precision_becomes_single(golden: Golden, tmp_path: Path) -> None:
    half = {name: weight.half() for name, weight in golden.state.items()}
    write_network(tmp_path / "n.safetensors", StoredNetwork(golden.architecture, half))
    module = build_module(read_network(tmp_path / "n.safetensors"))
    assert {weight.dtype for weight in module.state_dict().values()} == {torch.float32}


def test_damaged_files(golden: Golden, tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    write_network(path, StoredNetwork(golden.architecture, golden.state, {"note": "x"}))
    assert read_network(path).origin == {"note": "x"}
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(NetworkFileError, match="damaged"):
        read_network(path)
    path.write_bytes(content)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(NetworkFileError, match="damaged"):
        read_network(path)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"num_blocks": 100_000}, "200000 blocks must have as many weights"),
        ({"model_channels": 100_000, "channel_mult": [100_000] * 2}, "no network has such"),
        ({"model_channels": 0}, "no network has such"),
        ({"img_resolution": 0}, "no network has such"),
    ],
)
def test_a_description_cannot_ask_for_more_than_there_are_weights(
    golden: Golden, claim: dict[str, Any], message: str
) -> None:
    """Reading takes seconds and megabytes, regardless of the sizes that a file claims."""
    record = golden.architecture.to_json()
    record["init_kwargs"] |= claim
    architecture = EdmArchitecture.from_json(record)
    with pytest.raises(ValueError, match=message):
        build_module(StoredNetwork(architecture, golden.state))
