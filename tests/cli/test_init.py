"""``dgray init``: the studies that it writes are valid, fit their images, and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from dgray.cli.main import main
from dgray.record.run_folder import RunFolder
from tests.base.networks.test_diffusers_denoiser import save
from tests.problem.test_network_inputs import write_edm

FAST = (
    "base.steps=4",
    "base.generation_steps=2",
    "evaluate.num_steps=2",
    "evaluate.num_samples=12",
    "fit.epochs=2",
    "fit.checkpoints=[1,2]",
    "evaluate.num_points=2",
    "replicates=1",
)


def write_images(folder: Path, count: int, shape: tuple[int, ...], *, classes: int = 0) -> Path:
    """Write random PNG files of shape (H, W) or (H, W, 3), in a directory for each class."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    for index, image in enumerate(pixels):
        part = folder / f"class{index % classes}" if classes else folder
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(part / f"{index}.png")
    return folder


def written(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Return the fields of the study that ``dgray init`` writes."""
    out = tmp_path / "study.yaml"
    assert main(["init", *arguments, "--out", str(out)]) == 0
    fields: dict[str, Any] = YAML(typ="safe", pure=True).load(out.read_text("utf-8"))
    return fields


@pytest.mark.parametrize(
    ("count", "shape", "classes", "resize", "network", "metrics"),
    [
        (5, (8, 8), 0, None, "mlp", {"path_kl", "memorisation", "nll"}),
        (
            60,
            (8, 8, 3),
            2,
            None,
            "unet",
            {"path_kl", "memorisation", "kid", "precision", "recall"},
        ),
        (30, (15, 15, 3), 0, 12, "unet", {"path_kl", "memorisation"}),
        (12, (10, 14), 0, None, "mlp", {"path_kl", "memorisation"}),
        (20, (64, 64), 0, 16, "unet", {"path_kl", "memorisation"}),
    ],
)
def test_the_study_fits_the_images(
    count: int,
    shape: tuple[int, ...],
    classes: int,
    resize: int | None,
    network: str,
    metrics: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dgray.cli.fitting_study.visible_gpus", lambda: 0)
    images = write_images(tmp_path / "images", count, shape, classes=classes)
    study = written(tmp_path, "--images", str(images))
    data = study["data"]
    assert data["num_real"] + data["num_validation"] + data["num_held_out"] == count
    assert data.get("resize") == resize
    assert study["base"]["network"] == network
    assert set(study["evaluate"]["metrics"]) == metrics


@pytest.mark.long
def test_a_written_study_runs(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 5, (8, 8))
    written(tmp_path, "--images", str(images))
    run = [
        "run",
        str(tmp_path / "study.yaml"),
        "--engine",
        "local",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*run, "--set", *FAST]) == 0
    assert set(RunFolder(tmp_path / "run").rows()["status"]) == {"ok"}
    assert (tmp_path / "run" / "report.html").exists()


def test_a_mixture_and_what_cannot_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written(tmp_path, "--mixture")["data"]["kind"] == "mixture"
    study = tmp_path / "study.yaml"
    study.write_text("mine")
    assert main(["init", "--mixture", "--out", str(study)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert study.read_text() == "mine"
    assert main(["init", "--mixture", "--out", str(study), "--force"]) == 0
    few = write_images(tmp_path / "few", 3, (8, 8))
    assert main(["init", "--images", str(few), "--out", str(tmp_path / "few.yaml")]) == 2
    assert "needs at least 5 images" in capsys.readouterr().err
    assert not (tmp_path / "few.yaml").exists()
    assert main(["init"]) == 2


def test_the_command_that_runs_the_study_can_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--mixture", "--out", "my study.yaml"]) == 0
    assert capsys.readouterr().out.endswith("; run it with: dgray run 'my study.yaml'\n")


def test_points_that_repeat_are_split_by_their_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.arange(60.0)[:, None]
    np.savez(tmp_path / "points.npz", x=np.concatenate([values, values, values[:40]]))
    fields = written(tmp_path, "--points", str(tmp_path / "points.npz"))
    assert fields["data"]["num_held_out"] == 15
    assert main(["plan", str(tmp_path / "study.yaml")]) == 0
    assert "read by" not in capsys.readouterr().out
    np.savez(tmp_path / "few.npz", x=np.concatenate([values[:40]] * 3))
    few = ["--points", str(tmp_path / "few.npz"), "--out", str(tmp_path / "few.yaml")]
    assert main(["init", *few]) == 2
    assert "at least 50 different points" in capsys.readouterr().err


@pytest.fixture
def networks(tmp_path: Path) -> dict[str, Path]:
    """A network of EDM and one of diffusers, of 1 x 8 x 8 images."""
    save(tmp_path / "diffusers")
    edm = write_edm(tmp_path, img_channels=1)
    return {"edm": edm, "diffusers": tmp_path / "diffusers"}


@pytest.mark.parametrize("kind", ["edm", "diffusers"])
@pytest.mark.parametrize("has_images", [False, True])
def test_a_network_is_studied_on_images_of_its_shape(
    tmp_path: Path, networks: dict[str, Path], kind: str, has_images: bool
) -> None:
    images = ()
    if has_images:
        images = ("--images", str(write_images(tmp_path / "images", 40, (8, 8))))
    fields = written(tmp_path, f"--{kind}", str(networks[kind]), *images)
    assert fields["base"]["kind"] == kind
    assert fields["data"]["kind"] == ("folder" if has_images else "digits")
    assert main(["check", str(tmp_path / "study.yaml")]) == 0
