"""Classes of images from directories and from dataset.json."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dgray.errors import DataError
from tests.data.written_images import PNG, RGB, Read, encoded


def labelled(root: str, *labels: int) -> dict[str, bytes]:
    names = [f"0000{i % 2}/img{i}.png" for i in range(len(labels))]
    pairs = [list(pair) for pair in zip(names, labels, strict=True)]
    files = {root + name: encoded(RGB + np.uint8(i)) for i, name in enumerate(names)}
    return files | {f"{root}dataset.json": json.dumps({"labels": pairs}).encode()}


@pytest.mark.parametrize("root", ["", "faces/", "a/b/"])
def test_edms_labels_are_found_in_deeper_folders(read: Read, root: str) -> None:
    images = read(labelled(root, 2, 0, 1, 1))
    assert images.summary.classes == {"0": 1, "1": 2, "2": 1}
    assert images.remarks == ()


def test_edms_labels_above_their_images(read: Read) -> None:
    files = labelled("", 1, 0)
    moved = {f"img/{name}": content for name, content in files.items() if name.endswith(".png")}
    images = read(moved | {"dataset.json": files["dataset.json"]})
    assert images.summary.classes == {"0": 1, "1": 1}


def index_of(*entries: tuple[str, object]) -> dict[str, bytes]:
    return {"a.png": PNG, "b.png": PNG, "dataset.json": json.dumps({"labels": entries}).encode()}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a.png", 0), ("b.png", 1), ("a.png", 1)], r"a\.png has 0 and 1; remove one"),
        ([("a.png", 0), ("b.png", 10**9)], r"largest is 1,000,000,000; number them 0, "),
        ([("a.png", 0), ("b.png", 10**30)], "must be whole numbers"),
        ([("a.png", True), ("b.png", False)], "must be whole numbers"),
        ([("a.png", 0), ("b.png", None)], "must be whole numbers"),
        ([("a.png", 0), ("b.png", "cat")], "must be whole numbers"),
        ([("c.png", 0), ("d.png", 1)], "2 of 2 have none"),
    ],
)
def test_absurd_labels_are_refused(read: Read, entries: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(index_of(*entries))


def test_remarkable_labels_are_told(read: Read) -> None:
    images = read(index_of(("a.png", 0), (".\\b.png", 4), ("./a.png", 0), ("gone.png", 1)))
    assert images.summary.classes == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 1}
    text = "; ".join(images.remarks)
    assert "3 of the 5 classes have no image" in text
    assert "1 labels of dataset.json are of no image: gone.png" in text
    assert "1 images occur more than once" in text


def test_a_common_directory_is_the_root_of_the_classes(read: Read) -> None:
    images = read({"train/cat/a.png": PNG, "train/dog/b/c.png": PNG})
    assert images.summary.classes == {"cat": 1, "dog": 1}


def test_splits_are_no_classes(read: Read) -> None:
    files = {"train/cat/a.png": PNG, "Val/cat/b.png": PNG}
    with pytest.raises(DataError, match=r"Val, train seem to be splits; give the path of one"):
        read(files)
    assert read(files, labels="none").summary.classes is None
    assert read(files, labels="directories").summary.classes == {"Val": 1, "train": 1}


def test_numbered_parts_are_no_classes(read: Read) -> None:
    images = read({"00000/a.png": PNG, "01000/b.png": PNG})
    assert images.summary.classes is None
    assert "numbered parts" in images.remarks[0]


def test_numeric_directories_are_in_numerical_order(read: Read) -> None:
    images = read({f"{i}/a.png": PNG for i in range(12)})
    assert list(images.summary.classes or ()) == [str(i) for i in range(12)]


def test_why_there_are_no_classes(read: Read) -> None:
    images = read({"cat/a.png": PNG, "dog/b.png": PNG, "cover.png": PNG})
    assert images.remarks == (
        "no classes: 1 of 3 images are in no directory, the first cover.png",
    )
