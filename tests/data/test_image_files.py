"""Folders, zips and npz files: the same content, labels of every kind, and what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dgray.data.image_files import read_folder, read_zip
from dgray.data.images import ImageSet
from dgray.data.npz import read_npz

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
NAMES = tuple(f"0000{i % 2}/img{i}.png" for i in range(5))
LABELS = [2, 0, 1, 2, 2]
SORTED = sorted(range(5), key=NAMES.__getitem__)
Reader = Callable[..., ImageSet]


def write(root: Path, files: dict[str, Any]) -> Path:
    """Arrays as PNG, pictures as they are, bytes as bytes, all else as JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_bytes(
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )
    return root


def zipped(root: Path) -> Path:
    """The folder in a stored zip, its files in reverse order."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted((p for p in root.rglob("*") if p.is_file()), reverse=True):
            archive.write(file, file.relative_to(root).as_posix())
    return path


@pytest.fixture(params=["folder", "zip"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    """Writes files and reads them back, from a folder or from a zip."""

    def from_files(files: dict[str, Any], **options: Any) -> ImageSet:
        root = write(tmp_path / "set", files)
        if request.param == "folder":
            return read_folder(root, **options)
        return read_zip(zipped(root), **options)

    return from_files


def edm_files(index: object) -> dict[str, Any]:
    return {**dict(zip(NAMES, PIXELS, strict=True)), "dataset.json": index}


PAIRS = [[name, label] for name, label in zip(NAMES, LABELS, strict=True)]


def test_folder_zip_and_npz_of_one_content_are_equal(tmp_path: Path) -> None:
    root = write(tmp_path / "set", edm_files({"labels": PAIRS}))
    labels = np.array(LABELS)[SORTED]
    np.savez(tmp_path / "set.npz", samples=PIXELS[SORTED], label=labels)
    folder, archive = read_folder(root), read_zip(zipped(root))
    file = read_npz(tmp_path / "set.npz")
    assert folder.sha256 == archive.sha256 == file.sha256
    expected = torch.from_numpy(PIXELS[SORTED].transpose(0, 3, 1, 2).copy())
    assert torch.equal(folder.pixels, expected)
    assert file.labels is not None
    assert file.labels.tolist() == labels.tolist()
    assert {folder.name, archive.name, file.name} == {"set"}


def test_a_zip_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(write(tmp_path / "set", edm_files({"labels": PAIRS})))
    alone = tmp_path / "alone"
    alone.mkdir()
    read_zip(path.rename(alone / "set.zip"))
    assert [p.name for p in alone.iterdir()] == ["set.zip"]


def test_labels_of_dataset_json_go_with_their_files(read: Reader) -> None:
    images = read(edm_files({"labels": PAIRS}))
    assert images.labels is not None
    assert images.labels.tolist() == [LABELS[i] for i in SORTED]
    assert images.num_classes == 3


@pytest.mark.parametrize("index", [{"labels": None}, {}])
def test_edms_null_labels_are_none_although_there_are_directories(
    read: Reader, index: object
) -> None:
    assert read(edm_files(index)).labels is None


def test_one_hot_labels_of_dataset_json(read: Reader) -> None:
    rows = [[name, [int(i == label) for i in range(4)]] for name, label in PAIRS]
    images = read(edm_files({"labels": rows}))
    assert images.labels is not None
    assert images.labels.tolist() == [LABELS[i] for i in SORTED]
    assert images.num_classes == 4


def test_directories_are_classes_without_other_labels(read: Reader) -> None:
    files = {f"{name}/deeper/{i}.png": PIXELS[i] for i, name in enumerate(("cat", "ant", "cat"))}
    images = read(files)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 1]
    assert images.num_classes == 2
    assert read(files, labels="none").labels is None


def test_images_outside_directories_have_no_classes(read: Reader) -> None:
    files = {"a.png": PIXELS[0], "b/c.png": PIXELS[1]}
    assert read(files).labels is None
    with pytest.raises(ValueError, match=r"a\.png is in none"):
        read(files, labels="directories")


def test_dataset_json_can_be_set_aside_or_demanded(read: Reader) -> None:
    images = read(edm_files({"labels": PAIRS}), labels="directories")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 0, 1, 1]


def test_a_demanded_dataset_json_must_be_there(read: Reader) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json must exist"):
        read({"a.png": PIXELS[0]}, labels="dataset.json")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"labels": PAIRS[1:]}, r"1 of 5 have none, the first of them 00000/img0\.png"),
        ({"labels": [3, 4]}, r"of EDM's dataset_tool"),
        ([1], r"of EDM's dataset_tool"),
        (b"{", r"of EDM's dataset_tool"),
        ({"labels": [[name, -1] for name in NAMES]}, "got the label -1"),
        ({"labels": [[name, 0.5] for name in NAMES]}, "got an array of float64"),
        ({"labels": [[name, [0.5, 0.5]] for name in NAMES]}, "rows that are not one-hot"),
        ({"labels": [[name, [1] * i] for i, name in enumerate(NAMES)]}, "different lengths"),
    ],
)
def test_wrong_labels_are_refused(read: Reader, index: object, message: str) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.json: .*{message}"):
        read(edm_files(index))


def test_grey_stays_grey_and_the_rest_becomes_rgb(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS[1]).quantize(16)
    images = read_folder(write(tmp_path / "l", {"a.png": Image.fromarray(PIXELS[0, :, :, 0])}))
    assert torch.equal(images.pixels[0, 0], torch.from_numpy(PIXELS[0, :, :, 0].copy()))
    assert images.shape == (1, 6, 6)
    images = read_folder(write(tmp_path / "p", {"a.png": palette}))
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(images.pixels[0].numpy(), expected)


def test_jpeg_and_webp_are_read_and_other_files_left_alone(read: Reader) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (32, 32, 3))
    image = Image.fromarray(np.ascontiguousarray(smooth))
    images = read({"a.JPG": image, "b.webp": image, "c.jpeg": image, "note.txt": b"no image"})
    assert images.pixels.shape == (3, 3, 32, 32)
    assert (images.pixels.int() - torch.tensor(smooth.transpose(2, 0, 1)).int()).abs().max() < 16


def test_mixed_sizes_are_refused_naming_the_first_that_differs(read: Reader) -> None:
    files = {"a.png": PIXELS[0], "b.png": PIXELS[1, :, :4], "c.png": PIXELS[2, :4]}
    with pytest.raises(ValueError, match=r"a\.png has \(3, 6, 6\) and b\.png has \(3, 6, 4\)"):
        read(files)


def test_resizing_brings_squares_to_one_size(read: Reader) -> None:
    flat = np.full((9, 9, 3), 77, dtype=np.uint8)
    images = read({"a.png": PIXELS[0], "b.png": flat}, resize=6)
    assert images.shape == (3, 6, 6)
    assert np.array_equal(images.pixels[0].numpy(), PIXELS[0].transpose(2, 0, 1))  # as it was
    assert (images.pixels[1] == 77).all()


def test_resizing_averages_what_it_shrinks(tmp_path: Path) -> None:
    """A fine chequerboard becomes grey: without antialiasing it would be black or white."""
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    images = read_folder(write(tmp_path / "board", {"a.png": board}), resize=8)
    assert (images.pixels.int() - 128).abs().max() <= 4


def test_resizing_distorts_nothing(read: Reader) -> None:
    with pytest.raises(ValueError, match=r"b\.png is 4 wide and 6 high; crop it"):
        read({"a.png": PIXELS[0], "b.png": PIXELS[1, :, :4]}, resize=8)


def png_bytes(tmp_path: Path) -> bytes:
    Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    return (tmp_path / "x.png").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_image_is_named(read: Reader, tmp_path: Path, damage: str) -> None:
    whole = png_bytes(tmp_path)
    broken = {
        "cut": whole[:1000],
        "flipped": whole[:900] + bytes(b ^ 255 for b in whole[900:1000]) + whole[1000:],
        "text": b"<html>",
        "empty": b"",
    }[damage]
    with pytest.raises(ValueError, match=r"d/broken\.png cannot be read as an image"):
        read({"d/a.png": whole, "d/broken.png": broken})


def test_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"must hold images \(\.jpeg, .*holds none"):
        read_folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="must be a folder of images"):
        read_folder(tmp_path / "missing")
    for reader in (read_zip, read_npz):
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            reader(tmp_path / "missing")
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="must be a zip file, but it is not readable"):
        read_zip(tmp_path / "no.zip")


def test_a_zip_with_a_changed_byte_names_the_image(tmp_path: Path) -> None:
    path = zipped(write(tmp_path / "set", {"a.png": PIXELS[0]}))
    content = bytearray(path.read_bytes())
    content[60] ^= 1  # inside the stored PNG: its checksum in the zip no longer holds
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: Bad CRC"):
        read_zip(path)
