"""Surveys of the data sets of torchvision. No torch, and no NumPy."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from dgray.catalogue import DATA
from dgray.data.published_surveys import data_folder
from dgray.data.summary import DataSummary
from dgray.errors import MissingFileError


@dataclass(frozen=True)
class PublishedSet:
    """Data set as it is published.

    Attributes:
        train: number of training images of each class.
        test: number of test images of each class.
        files: files that the loader of torchvision reads, below its root.
        is_idx: whether they are in the format of MNIST, which the loader reads whatever their
            number of images; files of other formats have checksums.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    files: tuple[str, ...]
    is_idx: bool = False


_IDX_PARTS = ("train", "t10k")
_IDX_IMAGES, _IDX_LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_LEGACY_PARTS = ("training", "test")  # one file of torch each, of earlier versions
_IDX_HEADERS = (16, 8)  # bytes of a file of images, and of one of labels


def _like_mnist(name: str, train: tuple[int, ...], test: tuple[int, ...]) -> PublishedSet:
    kinds = (_IDX_IMAGES, _IDX_LABELS)
    files = (f"{name}/raw/{part}-{kind}" for part in _IDX_PARTS for kind in kinds)
    return PublishedSet(train, test, tuple(files), is_idx=True)


_SHAPES = {values["name"]: shape for values, shape in DATA["torchvision"].shapes}
PUBLISHED = {
    "MNIST": _like_mnist(
        "MNIST",
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    ),
    "FashionMNIST": _like_mnist("FashionMNIST", (6000,) * 10, (1000,) * 10),
    "KMNIST": _like_mnist("KMNIST", (6000,) * 10, (1000,) * 10),
    "USPS": PublishedSet(
        (1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644),
        (359, 264, 198, 166, 200, 160, 170, 147, 166, 177),
        ("usps.bz2", "usps.t.bz2"),
    ),
    "CIFAR10": PublishedSet(
        (5000,) * 10,
        (1000,) * 10,
        tuple(
            f"cifar-10-batches-py/{file}"
            for file in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
    ),
    "CIFAR100": PublishedSet(
        (500,) * 100,
        (100,) * 100,
        tuple(f"cifar-100-python/{file}" for file in ("train", "test", "meta")),
    ),
    "SVHN": PublishedSet(
        (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        ("train_32x32.mat", "test_32x32.mat"),
    ),
    "STL10": PublishedSet(
        (500,) * 10,
        (800,) * 10,
        tuple(
            f"stl10_binary/{file}"
            for file in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
        ),
    ),
}


def survey_torchvision(
    name: str, root: str | Path | None = None, *, download: bool = False
) -> DataSummary:
    """Return the summary of a data set of torchvision, with a remark if it will be downloaded.

    Raises:
        MissingFileError: if a file is missing or damaged, and is not to be downloaded.
    """
    published = PUBLISHED[name]
    folder = data_folder() if root is None else Path(root).expanduser()
    absent = [file for file in published.files if not _has_content(folder / file)]
    is_legacy = all(_has_content(folder / name / "processed" / f"{p}.pt") for p in _LEGACY_PARTS)
    if absent and not (published.is_idx and is_legacy):
        if not download:
            error = missing_files(name, folder, f"no file {absent[0]}", download=download)
            error.summary = _summary(name, published)
            raise error
        return _summary(name, published, (f"will be downloaded to {folder}",))
    if published.is_idx and not is_legacy:
        train, test = (_idx_classes(name, folder, part) for part in _IDX_PARTS)
        published = replace(published, train=train, test=test)
    return _summary(name, published)


def missing_files(name: str, folder: Path, reason: str, *, download: bool) -> MissingFileError:
    """Return the error of files that are missing or damaged."""
    fix = "" if download else ", or set data.download: true"
    return MissingFileError(
        f"{name} is missing or damaged in {folder} ({reason}); put the files of "
        f"torchvision.datasets.{name} there{fix}"
    )


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _idx_classes(name: str, folder: Path, part: str) -> tuple[int, ...]:
    """Return the number of images of each class of a part, from its files of labels and images."""
    images, labels = (
        folder / name / "raw" / f"{part}-{kind}" for kind in (_IDX_IMAGES, _IDX_LABELS)
    )
    classes = labels.read_bytes()[_IDX_HEADERS[1] :]
    pixels = images.stat().st_size - _IDX_HEADERS[0]
    if pixels != len(classes) * math.prod(_SHAPES[name]):
        raise missing_files(
            name, folder, f"{images.name} and {labels.name} differ in size", download=False
        )
    counts = Counter(classes)
    return tuple(counts[label] for label in range(max(counts, default=-1) + 1))


def _summary(name: str, published: PublishedSet, remarks: tuple[str, ...] = ()) -> DataSummary:
    pairs = itertools.zip_longest(published.train, published.test, fillvalue=0)
    classes = {str(label): sum(counts) for label, counts in enumerate(pairs)}
    num_test = sum(published.test)
    return DataSummary(
        name, sum(published.train) + num_test, _SHAPES[name], classes, remarks, num_test
    )
