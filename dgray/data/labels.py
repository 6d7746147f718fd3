"""Classes of images from arrays, from EDM's ``dataset.json`` or from names of directories."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dgray.data.listing import INDEX, Listing
from dgray.data.summary import NO_CLASSES, examples, printable
from dgray.errors import DataError

LabelSource = Literal["auto", "dataset.json", "directories", "none"]
MAX_CLASSES = 1000  # ImageNet's; data sets of more images may have as many classes as images
# Names of directories that divide a data set into parts instead of classes.
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev"}
SHARD_DIGITS = 5  # of directories like 00000, in which EDM and FFHQ store a thousand images each


@dataclass(frozen=True)
class Classes:
    """Classes of the images of a data set.

    Attributes:
        labels: int64, shape (N,); None: no classes.
        names: name of each class, in the order of the labels.
        remarks: why there are none, or what else is remarkable.
    """

    labels: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def classes_of(listing: Listing, source: LabelSource) -> Classes:
    """Return the classes of the images of a folder or zip file, in the order of its images.

    A directory that contains all images is the root of the data set; classes are the directories
    in it, and ``dataset.json`` is in it or above it.

    Raises:
        DataError: if labels are demanded but missing, or are not what they must be.
    """
    if source == "none":
        return Classes()
    root = _common_folder(listing.images)
    index = next((name for name in listing.indices if root.startswith(_folder(name))), None)
    outside = [name for name in listing.indices if name != index]
    remarks = (f"not used: {examples(outside)}, not above all images",)[: len(outside)]
    if source != "directories" and index is not None:
        with listing.open(index) as stream:
            content = stream.read()
        place = f"{listing.source}: {index}"
        return _with_remarks(_classes_of_json(content, listing, index, root, place), remarks)
    if source == "dataset.json":
        raise DataError(
            f"{listing.source}: {INDEX} must exist beside or above the images to give the labels, "
            f"but it does not{'; ' + '; '.join(remarks) if remarks else ''}; use labels: none"
        )
    return _with_remarks(_classes_of_directories(listing, root, source), remarks)


def _with_remarks(classes: Classes, remarks: tuple[str, ...]) -> Classes:
    return Classes(classes.labels, classes.names, (*classes.remarks, *remarks))


def _folder(name: str) -> str:
    """Return the folder of a path, with its last ``/``; empty at the top."""
    return name[: name.rfind("/") + 1]


def _common_folder(names: Sequence[str]) -> str:
    """Return the deepest folder that contains all files."""
    first, last = min(names), max(names)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return _folder(first if common is None else first[:common])


def class_labels(values: Any, source: str) -> Classes:
    """Return classes from whole numbers, (N,) or (N, 1), or from one-hot rows, (N, classes).

    The number of classes is the largest label plus one, or the length of a row.

    Raises:
        DataError: if the values are neither, or more than the images can have.
    """
    try:
        array = np.asarray(values)
        actual = f"an array of {array.dtype}, shape {array.shape}"
    except (ValueError, OverflowError):  # rows of different lengths
        array, actual = np.empty(0, dtype=object), "values of different lengths"
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu":
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf":
        one_hot = ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()
        if one_hot:
            return _numbered(array.argmax(axis=1), array.shape[1], source)
        actual = "rows that are not one-hot"
    elif array.ndim == 1 and array.dtype.kind in "iu" and len(array):
        if array.min() >= 0:
            return _numbered(array, int(array.max()) + 1, source)
        actual = f"the label {array.min()}"
    raise DataError(
        f"{source}: labels must be whole numbers from 0, one per image, or one-hot rows, "
        f"but got {actual}"
    )


def _numbered(labels: NDArray[Any], num_classes: int, source: str) -> Classes:
    """Return classes that are named by their numbers."""
    limit = max(MAX_CLASSES, len(labels))
    if num_classes > limit:
        raise DataError(
            f"{source}: labels must be classes numbered from 0, at most {limit:,} for "
            f"{len(labels):,} images, but the largest is {num_classes - 1:,}; number them 0, "
            "1, 2, ..., or remove them"
        )
    empty = num_classes - len(np.unique(labels))
    remarks = (f"{empty:,} of the {num_classes:,} classes have no image",)[: bool(empty)]
    return Classes(labels.astype(np.int64), tuple(map(str, range(num_classes))), remarks)


def _classes_of_json(
    content: bytes, listing: Listing, index: str, root: str, source: str
) -> Classes:
    """Return classes from EDM's ``dataset.json``: ``{"labels": [["00000/img0.png", 6], ...]}``.

    ``"labels": null``, or no such key, means a data set without classes. Paths are relative to
    the folder of the file, or to the root of the images.
    """
    try:
        pairs = json.loads(content).get("labels")
        entries = None if pairs is None else [(_normal(name), label) for name, label in pairs]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{source}: must have the form {{"labels": [["FILE", CLASS], ...]}} of EDM\'s '
            f"dataset_tool, but reading it failed: {error}"
        ) from error
    if entries is None:
        return Classes(remarks=(f"{NO_CLASSES}: {index} has none",))
    label_of, repeated = _unique(entries, source)
    bases = dict.fromkeys((_folder(index), root))
    names = max(
        ([name.removeprefix(base) for name in listing.images] for base in bases),
        key=lambda names: sum(name in label_of for name in names),
    )
    if missing := [name for name in names if name not in label_of]:
        raise DataError(
            f"{source}: must label every image, but {len(missing)} of {len(names)} have none, "
            f"the first of them {printable(missing[0])}; add them, or use labels: none"
        )
    classes = class_labels([label_of[name] for name in names], source)
    absent = sorted(label_of.keys() - set(names))
    remarks = [f"{len(absent):,} labels of {index} are of no image: {examples(absent)}"] * bool(
        absent
    )
    remarks += [f"{repeated:,} images occur more than once in {index}"] * bool(repeated)
    return _with_remarks(classes, tuple(remarks))


def _normal(name: Any) -> str:
    return str(name).replace("\\", "/").removeprefix("./")


def _unique(entries: Sequence[tuple[str, Any]], source: str) -> tuple[dict[str, Any], int]:
    """Return the label of each file, and how many files are listed more than once."""
    label_of: dict[str, Any] = {}
    for name, label in entries:
        if label_of.setdefault(name, label) != label:
            raise DataError(
                f"{source}: must give every image one label, but {printable(name)} has "
                f"{label_of[name]} and {label}; remove one of them"
            )
    return label_of, sum(count > 1 for count in Counter(name for name, _ in entries).values())


def _classes_of_directories(listing: Listing, root: str, source: LabelSource) -> Classes:
    """Return one class per directory in the root, in alphabetical or numerical order."""
    names = [name.removeprefix(root) for name in listing.images]
    outside = [name for name in names if "/" not in name]
    if source == "directories" and len(outside) == len(names) and root:
        names, outside = [root.split("/")[-2] + "/"] * len(names), []  # a single class
    if outside:
        number = f"{len(outside):,} of {len(names):,} images"
        if source == "directories":
            raise DataError(
                f"{listing.source}: labels come from the directories, but "
                f"{printable(outside[0])} is in none, as are {number}; move them, or use labels: "
                "none"
            )
        remark = f"{NO_CLASSES}: {number} are in no directory, the first {printable(outside[0])}"
        return Classes(remarks=(remark,)[: len(outside) < len(names)])
    tops = [name.split("/")[0] for name in names]
    directories = sorted(set(tops), key=_order(set(tops)))
    if source == "auto":
        if {name.lower() for name in directories} <= SPLITS:
            raise DataError(
                f"{listing.source}: directories must be classes, but {', '.join(directories)} "
                "seem to be splits; give the path of one of them, or use labels: none, or labels: "
                "directories if they are classes"
            )
        if all(name.isdecimal() and len(name) >= SHARD_DIGITS for name in directories):
            remark = f"{NO_CLASSES}: {examples(directories)} are numbered parts"
            return Classes(remarks=(f"{remark} (labels: directories makes them classes)",))
    label_of = {name: label for label, name in enumerate(directories)}
    labels = np.array([label_of[name] for name in tops], dtype=np.int64)
    return Classes(labels, tuple(map(printable, directories)))


def _order(directories: set[str]) -> Any:
    """Return the key by which directories are sorted: their numbers, if all are numbers."""
    is_numeric = all(name.isascii() and name.isdecimal() for name in directories)
    return (lambda name: (int(name), name)) if is_numeric else None
