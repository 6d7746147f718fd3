"""``python -m dgray.sample``: models, seeds, and repeating an interrupted command."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.importing.stored import (
    StoredNetwork,
    build_denoiser,
    read_network,
    write_network,
)
from dgray.cli import draw_samples
from dgray.cli.find_model import run_recipe
from dgray.cli.sample import main
from dgray.config.reading.load import load_study
from dgray.data.images import to_uint8
from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder
from tests.record.local_runs import run_study_text

IMAGES = """\
name: tiny
replicates: 2
diffusion: {sigma_min: 0.05, sigma_max: 40}
data: {kind: digits, num_real: 40, num_validation: 20, num_held_out: 20}
base: {kind: trained, width: 16, depth: 1, num_real: 80, steps: 30, batch_size: 40,
       num_generated: 40, generation_steps: 4}
discriminator: {width: 8, depth: 1}
fit: {objective: kl, epochs: 2, checkpoints: [1, 2], batch_size: 20, learning_rate: 1e-2}
evaluate: {guidance_weight: [1, calibrated], num_steps: 4, metrics: [path_kl], num_samples: 8}
"""
POINTS = """\
name: tiny
replicates: 1
data: {kind: mixture, name: ring8, num_real: 40, num_validation: 20, num_held_out: 20}
base: {kind: wrong_mixture, std_scale: 1.4, num_generated: 40}
discriminator: {width: 8, depth: 1}
fit: {objective: kl, epochs: 2, batch_size: 20}
evaluate: {guidance_weight: 1, guidance_interval: [null, [0.1, 1]], num_steps: 4,
           metrics: [path_kl], num_samples: 8}
"""


def test_each_interval_of_a_run_can_be_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings differ in their intervals alone, two of them in the upper end alone."""
    text = POINTS.replace("[null, [0.1, 1]]", "[null, [0.1, 1], [0.1, 9]]")
    run = RunFolder(run_study_text(tmp_path, text))
    trial = make_plan(load_study(run.path / "study.lock.yaml")).trials[-1]
    rows = run.rows()
    for setting in trial.settings:
        same = rows["trial"] == trial.id
        for name, value in setting.columns().items():
            same &= rows[name].isna() if value is None else rows[name] == value
        monkeypatch.setattr(run, "rows", rows[same].copy)
        recipe = run_recipe(run, trial=trial.id, replicate=0, weight=None)
        assert recipe.setting == setting


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_study_text(tmp_path_factory.mktemp("images"), IMAGES)


def sample(source: Path, out: Path, *arguments: str) -> int:
    return main([str(source), "--out", str(out), "--device", "cpu", *arguments])


def test_folder_zip_and_npz_hold_the_same_images(run: Path, tmp_path: Path) -> None:
    for name in ("folder", "a.zip", "a.npz"):
        assert sample(run, tmp_path / name, "--seeds", "3-6") == 0
    names = [f"{seed:06d}.png" for seed in range(3, 7)]
    assert sorted(p.name for p in (tmp_path / "folder").glob("*.png")) == names
    images = np.load(tmp_path / "a.npz")["arr_0"]
    assert images.shape == (4, 8, 8, 1)
    assert images.dtype == np.uint8
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == names
        for name, image in zip(names, images, strict=True):
            assert archive.getinfo(name).compress_type == zipfile.ZIP_STORED
            assert archive.read(name) == (tmp_path / "folder" / name).read_bytes()
            with Image.open(tmp_path / "folder" / name) as picture:
                assert np.array_equal(np.asarray(picture), image[..., 0])
    assert {p.name for p in tmp_path.iterdir()} == {
        "folder", "folder-grid.png", "a.zip", "a-grid.png", "a.npz"
    }  # fmt: skip


def test_an_image_depends_on_its_seed_only(run: Path, tmp_path: Path) -> None:
    assert sample(run, tmp_path / "a", "--seeds", "0-9") == 0
    assert sample(run, tmp_path / "b", "--seeds", "5-7", "--batch-size", "2") == 0
    for part in (tmp_path / "b").glob("*.png"):
        assert part.read_bytes() == (tmp_path / "a" / part.name).read_bytes()
    assert len({p.read_bytes() for p in (tmp_path / "a").glob("*.png")}) == 10


def test_existing_samples_are_kept_and_broken_ones_drawn_again(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    assert sample(run, out, "--num-samples", "4") == 0
    whole = (out / "000002.png").read_bytes()
    (out / "000002.png").write_bytes(whole[:20])
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(out / "000001.png")
    assert sample(run, out, "--num-samples", "4") == 0
    assert (out / "000002.png").read_bytes() == whole
    with Image.open(out / "000001.png") as picture:
        assert np.asarray(picture).max() == 7  # not drawn again


def test_the_weight_changes_samples_and_models_are_not_mixed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample(run, tmp_path / "a", "--guidance-weight", "0") == 0
    assert sample(run, tmp_path / "b", "--trial", "base") == 0
    assert sample(run, tmp_path / "c", "--guidance-weight", "30") == 0
    images = [
        np.stack([np.asarray(Image.open(p)) for p in sorted((tmp_path / name).glob("*.png"))])
        for name in "abc"
    ]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    assert sample(run, tmp_path / "a", "--guidance-weight", "1") == 2
    assert "holds samples of another model" in capsys.readouterr().err


def test_a_calibrated_weight_of_zero_is_stated(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    note = "its calibrated weight is 0 at every noise level, so this model is the unguided base"
    chosen = run_recipe(RunFolder(run), trial="kl", replicate=0, weight="calibrated")
    assert chosen.calibrated is not None
    for factor in (0.0, 1.0):
        values = torch.full_like(chosen.calibrated.values, factor)
        model = replace(chosen, calibrated=replace(chosen.calibrated, values=values))
        monkeypatch.setattr(draw_samples, "run_recipe", lambda *run, m=model, **options: m)
        assert sample(run, tmp_path / str(factor)) == 0
        assert (note in capsys.readouterr().out) == (factor == 0)


def test_the_best_row_of_the_study_is_the_default(run: Path) -> None:
    model = run_recipe(RunFolder(run), trial="best", replicate=0, weight=None)
    assert model.setting.is_calibrated == (model.calibrated is not None)
    assert model.name.startswith("kl")


def test_checkpoint_and_calibrated_weight_are_selected_by_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(run)
    for trial in ("best", "kl"):
        for epoch in (1, 2):
            model = run_recipe(folder, trial=trial, replicate=1, weight="calibrated", epoch=epoch)
            assert model.name.endswith(f"epoch {epoch}, calibrated, 4 steps")
            assert model.setting.is_calibrated
            assert model.calibrated is not None
    early, late = (
        run_recipe(folder, trial="kl", replicate=0, weight=1.0, epoch=epoch) for epoch in (1, 2)
    )
    assert early.weights is not None
    assert late.weights is not None
    assert any((a != b).any() for a, b in zip(early.weights, late.weights, strict=True))
    assert sample(run, tmp_path / "a", "--epoch", "3") == 2
    assert "--epoch must be a checkpoint of kl" in capsys.readouterr().err
    assert sample(run, tmp_path / "a", "--trial", "base", "--guidance-weight", "calibrated") == 2
    assert "evaluated no calibrated weight of base" in capsys.readouterr().err


def test_points_of_a_mixture_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_study_text(tmp_path, POINTS)
    assert sample(run, tmp_path / "points.npz", "--num-samples", "5") == 0
    points = np.load(tmp_path / "points.npz")["arr_0"]
    assert points.shape == (5, 2)
    assert points.dtype == np.float32
    assert sample(run, tmp_path / "x.npz", "--trial", "nothing") == 2
    assert "a trial is selected by its name" in capsys.readouterr().err


def test_trials_of_a_search_can_be_sampled(tmp_path: Path) -> None:
    searched = POINTS.replace("width: 8", "width: {int: [4, 8]}")
    search = "search: {method: optuna, metrics: {path_kl_change: minimize}, num_trials: 2}\n"
    run = run_study_text(tmp_path, searched + search)
    rows = RunFolder(run).rows()
    trials = set(rows[rows["objective"] == "kl"]["trial"])
    assert trials
    for number, trial in enumerate(sorted(trials)):
        assert sample(run, tmp_path / f"{number}.npz", "--trial", trial) == 0
    assert sample(run, tmp_path / "best.npz", "--trial", "best") == 0


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_best_is_the_choice_of_the_search(direction: str, tmp_path: Path) -> None:
    searched = POINTS.replace("width: 8", "width: {choice: [4, 16]}")
    search = (
        f"search: {{method: optuna, metrics: {{num_parameters: {direction}}}, "
        "num_trials: 8, sampler: {name: random, seed: 0}}\n"
    )
    run = RunFolder(run_study_text(tmp_path, searched + search))
    model = run_recipe(run, trial="best", replicate=0, weight=None)
    assert f"width {4 if direction == 'minimize' else 16}," in model.name
    by_change = run.rows().query("objective == 'kl'")
    assert by_change["trial"].nunique() == 2


@pytest.mark.ray
@pytest.mark.usefixtures("ray_running")
def test_workers_draw_the_same_images(run: Path, tmp_path: Path) -> None:
    assert sample(run, tmp_path / "here", "--num-samples", "12", "--batch-size", "5") == 0
    there = ["--num-samples", "12", "--batch-size", "5", "--workers", "2"]
    assert sample(run, tmp_path / "there", *there) == 0
    for part in (tmp_path / "here").glob("*.png"):
        assert part.read_bytes() == (tmp_path / "there" / part.name).read_bytes()
    assert len(list((tmp_path / "there").glob("*.png"))) == 12


def test_replicates_are_different_models(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for replicate in (0, 1):
        out = tmp_path / str(replicate)
        strongly = ("--guidance-weight", "30", "--replicate", str(replicate))
        assert sample(run, out, "--num-samples", "3", *strongly) == 0
    first, second = (
        [p.read_bytes() for p in sorted((tmp_path / name).glob("*.png"))] for name in "01"
    )
    assert first != second
    assert sample(run, tmp_path / "2", "--replicate", "2") == 2
    assert (
        "--replicate 2: the run has no complete row of this replicate" in capsys.readouterr().err
    )


def test_a_base_is_sampled_without_a_run(tmp_path: Path) -> None:
    kwargs = {
        "img_resolution": 8,
        "img_channels": 3,
        "label_dim": 0,
        "model_type": "SongUNet",
        "model_channels": 8,
        "channel_mult": [1],
        "num_blocks": 1,
        "attn_resolutions": [4],
    }
    architecture = EdmArchitecture("EDMPrecond", kwargs)
    torch.manual_seed(0)
    state = architecture.build().state_dict()
    path = tmp_path / "net.safetensors"
    write_network(path, StoredNetwork(architecture, state))
    arguments = ["--base", str(path), "--num-steps", "3", "--device", "cpu", "--num-samples", "3"]
    assert main([*arguments, "--out", str(tmp_path / "a.npz")]) == 0
    images = np.load(tmp_path / "a.npz")["arr_0"]
    assert images.shape == (3, 8, 8, 3)
    # Independent reference: Heun steps at EDM's noise levels, from the same noise.
    from dgray.diffusion.noise import philox_noise

    base = build_denoiser(read_network(path))
    x = 80 * philox_noise(0, range(3), (192,), "start")
    levels = [80.0, (80 ** (1 / 7) + 0.5 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, 0.002, 0.0]
    for sigma, after in pairwise(levels):
        slope = (x - base(x, torch.full((3,), sigma).double())) / sigma
        ahead = x + (after - sigma) * slope
        if after:
            second = (ahead - base(ahead, torch.full((3,), after).double())) / after
            ahead = x + (after - sigma) * (slope + second) / 2
        x = ahead
    expected = to_uint8(x).view(3, 3, 8, 8).permute(0, 2, 3, 1).numpy()
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--num-samples", "0", "whole number in [1, 10000000], but got '0'"),
        ("--batch-size", "-4", "whole number in [1, 10000000], but got '-4'"),
        ("--seeds", "9-3", "A-B with A <= B < 10^18, like 0-49999, but got '9-3'"),
        ("--num-steps", "2.5", "whole number in [1, 100000], but got '2.5'"),
        ("--gpus-per-worker", "1.5", "whole number of GPUs, or a fraction of one, but got '1.5'"),
        ("--gpus-per-worker", "-1", "number of GPUs in [0, 10000], but got '-1'"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_read(
    option: str, value: str, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["no-such-run", "--out", "x.npz", f"{option}={value}"]) == 2
    assert rule in capsys.readouterr().err
