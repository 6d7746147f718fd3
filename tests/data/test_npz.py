"""DG's npz files: keys, labels, and what is refused (pickles above all)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dgray.data.npz import read_npz
from dgray.errors import DataError

IMAGES = np.random.default_rng(1).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
LABELS = np.array([3, 0, 1, 1], dtype=np.int32)


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("arrays", [{"arr_0": IMAGES}, {"samples": IMAGES}])
def test_images_without_labels(tmp_path: Path, arrays: dict[str, Any]) -> None:
    images = read_npz(saved(tmp_path, **arrays))
    assert images.shape == (3, 5, 6)
    assert images.pixels[2, 1, 3, 4] == IMAGES[2, 3, 4, 1]
    assert torch.equal(images.pixels, torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    assert images.labels is None


@pytest.mark.parametrize(
    ("key", "values", "num_classes"),
    [
        ("label", LABELS, 4),
        ("arr_1", LABELS.astype(np.uint8), 4),
        ("label", np.eye(10, dtype=np.float32)[LABELS], 10),
        ("label", np.eye(10, dtype=bool)[LABELS], 10),
    ],
)
def test_labels(tmp_path: Path, key: str, values: Any, num_classes: int) -> None:
    images = read_npz(saved(tmp_path, samples=IMAGES, **{key: values}))
    assert images.labels is not None
    assert images.labels.tolist() == LABELS.tolist()
    assert images.num_classes == num_classes


class Touch:
    """Unpickled, it leaves a file: the sign that code of the file was run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = saved(tmp_path, samples=IMAGES, label=np.array([Touch(trace)], dtype=object))
    with pytest.raises(ValueError, match=r"set\.npz: must be an npz of plain numbers.*pickle"):
        read_npz(path)
    assert not trace.exists()
    np.load(path, allow_pickle=True)["label"]
    assert trace.exists()  # so the test could have failed


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "under one of arr_0, samples, but it holds images"),
        ({"samples": IMAGES, "arr_0": IMAGES}, "one of arr_0 and samples, but it holds both"),
        ({"samples": IMAGES / 255}, "must be uint8 .* but got float64"),
        ({"samples": IMAGES.transpose(0, 3, 1, 2)}, r"\(N, H, W, C\) with C 1 or 3"),
        ({"samples": IMAGES[0]}, r"of shape \(5, 6, 3\)"),
        ({"samples": IMAGES, "label": LABELS[:3]}, r"labels of shape \(3,\) for 4 images"),
        ({"samples": IMAGES, "label": LABELS - 1}, "got the label -1"),
        ({"samples": IMAGES, "label": LABELS / 2}, "whole numbers from 0"),
        ({"samples": IMAGES, "label": np.ones((4, 2))}, "rows that are not one-hot"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_npz(saved(tmp_path, **arrays))


def test_a_scalar_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one label per image"):
        read_npz(saved(tmp_path, samples=IMAGES, label=np.array(3)))


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04cut"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.npz: must be an npz of plain numbers"):
        read_npz(tmp_path / "set.npz")


def test_a_bare_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", IMAGES)
    with pytest.raises(ValueError, match="one bare array"):
        read_npz(tmp_path / "set.npy")


@pytest.mark.parametrize(
    ("name", "shape", "held"),
    [
        ("arr_0", (10**9, 32, 32, 3), 0),  # never allocated
        ("arr_0", (2, 4, 4, 3), 95),
        ("arr_0", (2, 4, 4, 3), 97),
        ("arr_0", (-2, 4, 4, 3), 96),
        ("arr_0", (10**30, 4, 4, 3), 96),
        ("arr_1", (10**12,), 4),
    ],
)
def test_an_array_that_is_not_as_long_as_its_header_says_is_refused(
    name: str, shape: tuple[int, ...], held: int, tmp_path: Path
) -> None:
    path = saved(tmp_path, **({} if name == "arr_0" else {"arr_0": IMAGES}))
    with zipfile.ZipFile(path, "a") as archive, archive.open(f"{name}.npy", "w") as entry:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(entry, header)
        entry.write(bytes(held))
    with pytest.raises(DataError, match=rf"{name} should hold -?\d+ bytes, but it holds {held}"):
        read_npz(path)


def test_an_array_beyond_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 16)
    with pytest.raises(DataError, match="arr_0 must fit into memory, but it takes"):
        read_npz(saved(tmp_path, arr_0=IMAGES))
