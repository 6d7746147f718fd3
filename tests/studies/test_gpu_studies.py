"""Run the three GPU studies of the paper on small substitutes for their data and networks."""

from __future__ import annotations

import math
import re
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.importing.stored import StoredNetwork, write_network
from dgray.cli.study import main
from dgray.config.reading.load import load_study
from dgray.metrics.estimate import Estimate, between
from dgray.metrics.features.inception_file import VARIABLE
from dgray.plan.cost import estimate
from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder
from tests.metrics.features import conftest as of_features

weights_folder = of_features.weights_folder  # substitutes for Inception's files
STUDIES = Path(__file__).parents[2] / "studies"
NAMES = ("cifar10", "ffhq64", "afhqv2")
SIDE = 16  # pixels of the substitute images: three levels, as in the published networks


def write_network_substitute(folder: Path) -> Path:
    """Write a small random network of the published kind (DDPM++ in EDM's preconditioning)."""
    kwargs = {
        "model_type": "SongUNet",
        "img_resolution": SIDE,
        "img_channels": 3,
        "label_dim": 0,
        "model_channels": 8,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [8],
        "augment_dim": 9,
    }
    architecture = EdmArchitecture("EDMPrecond", kwargs)
    torch.manual_seed(0)
    path = folder / "network.safetensors"
    write_network(path, StoredNetwork(architecture, architecture.build().state_dict()))
    return path


def write_images(folder: Path, count: int = 60) -> Path:
    """Write a zip file in the format of EDM's dataset_tool."""
    path = folder / "images.zip"
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for index, image in enumerate(pixels):
            buffer = BytesIO()
            Image.fromarray(image).save(buffer, format="PNG")
            archive.writestr(f"00000/img{index:08d}.png", buffer.getvalue())
    return path


def overrides(folder: Path) -> list[str]:
    """Return overrides of all sizes too large for a CPU; kinds and objectives are unchanged."""
    images = f"{{kind: zip, path: {write_images(folder)}, num_real: 24, num_validation: 12"
    return [
        f"data={images}, num_held_out: 12}}",
        f"base.network={write_network_substitute(folder)}",
        "base.generation_steps=3",
        "base.num_generated=12",
        "discriminator.width=8",
        "discriminator.depth=1",
        "fit.epochs=2",
        "fit.checkpoints=[1, 2]",
        "fit.batch_size=8",
        "evaluate.num_steps=3",
        "evaluate.num_samples=12",
        "evaluate.sampling_seeds=2",
        "evaluate.shard_size=7",
        "evaluate.num_noised=4",
        "evaluate.num_bins=2",
        "evaluate.tolerance=3",
        "evaluate.sigmas_per_bin=1",
        "resources.gpus_per_trial=0",
        "resources.cpus_per_trial=1",
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param("cifar10", marks=pytest.mark.ray), "ffhq64", "afhqv2"]
)
def test_the_study_runs_on_substitutes(
    name: str, tmp_path: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers of an existing Ray do not receive this variable and must not need it.
    monkeypatch.setenv(VARIABLE, str(weights_folder))
    out = tmp_path / "run"
    engine = "ray" if name == "cifar10" else "local"
    command = [str(STUDIES / f"{name}.yaml"), "--out", str(out), "--engine", engine]
    assert main([*command, "--set", *overrides(tmp_path)]) == 0
    rows = RunFolder(out).rows()
    num_weights = 2 if name == "cifar10" else 1
    assert len(rows) == 1 + 3 * 2 * num_weights
    assert set(rows["objective"]) == {"base", "cross_entropy", "kl", "mixed"}
    assert set(rows["status"]) == {"ok"}
    assert set(rows["features"]) == {"fid_legacy_tensorflow"}
    guided = rows[rows["objective"] != "base"]
    assert set(guided["guided_stage"]) == {"predictor"}
    assert set(rows["num_scored"]) == {2 * 12}
    for column in ("fid", "fid_se", "kid", "kid_se", "path_kl_change"):
        assert np.isfinite(rows[column].astype(float)).all(), column
    assert guided["fid"].nunique() > 1
    assert (out / "report.html").exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_estimates_gpu_hours(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = STUDIES / f"{name}.yaml"
    assert main([str(path), "--plan"]) == 0
    text = capsys.readouterr().out
    (hours,) = re.findall(r"GPU hours, at the speed of an A100 +([\d.]+)", text)
    assert re.search(r"estimated time with 1 GPU +\d", text)
    plan = make_plan(load_study(path))
    base = plan.trials[0]
    config = base.config
    # Images of the base: 21 GFLOP per call for 3 x 32 x 32 values, at 1e13 FLOP per second.
    values = 3 * (config.data.resize if name != "cifar10" else 32) ** 2  # type: ignore[union-attr]
    calls = 2 * config.evaluate.num_steps[0] - 1
    images = config.evaluate.num_samples * config.evaluate.sampling_seeds
    seconds = 2 * 3.4e6 * values * calls * images / 1e13
    cost = estimate(plan, cpus=8, gpus=1)
    assert cost.trial_seconds[0] == pytest.approx(seconds, rel=0.05)
    assert float(hours) == pytest.approx(cost.gpu_seconds / 3600, rel=0.01)
    assert cost.gpu_seconds > sum(cost.trial_seconds)  # generated samples are included
    # 4.3 M weights, their average and two moments in float32 at six checkpoints, and figures
    assert 0.4e9 < cost.disk_bytes < 2e9


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol_equals_the_published_one(name: str) -> None:
    config = make_plan(load_study(STUDIES / f"{name}.yaml")).trials[-1].config
    evaluate = config.evaluate
    assert evaluate.num_samples == (15_000 if name == "afhqv2" else 50_000)
    assert evaluate.sampling_seeds == 3
    assert evaluate.num_steps == ((18,) if name == "cifar10" else (40,))
    assert evaluate.guidance_interval == ((0.0447, 80.0),)
    assert evaluate.guided_stage == ("predictor",)
    assert 2.0 in evaluate.guidance_weight
    assert config.resources.gpus_per_trial == 1


def test_the_standard_error_of_several_sets_is_their_spread() -> None:
    joined = between([Estimate(1.0, 9.0), Estimate(3.0, 9.0), Estimate(5.0, 9.0)])
    assert (joined.value, joined.se) == (3.0, pytest.approx(2 / math.sqrt(3)))
    assert between([Estimate(1.0, 9.0)]) == Estimate(1.0, 9.0)
