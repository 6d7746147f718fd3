"""Classes of images from arrays, from EDM's ``dataset.json`` or from names of directories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgray.errors import DataError

Labels = tuple[Tensor | None, int]  # int64, shape (N,), and the number of classes; or (None, 0)


def class_labels(values: Any, source: str) -> Labels:
    """Return classes from whole numbers, (N,), or from one-hot rows, (N, number of classes).

    The number of classes is the largest label plus one, or the length of a row.

    Raises:
        DataError: if the values are neither.
    """
    try:
        array = np.asarray(values)
        actual = f"an array of {array.dtype}, shape {array.shape}"
    except ValueError:  # rows of different lengths
        array, actual = np.empty(0, dtype=object), "values of different lengths"
    if array.ndim == 2 and array.dtype.kind in "biuf":
        one_hot = ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()
        if one_hot:
            return torch.from_numpy(array.argmax(axis=1).astype(np.int64)), array.shape[1]
        actual = "rows that are not one-hot"
    elif array.ndim == 1 and array.dtype.kind in "iu" and len(array):
        if array.min() >= 0:
            return torch.from_numpy(array.astype(np.int64)), int(array.max()) + 1
        actual = f"the label {array.min()}"
    raise DataError(
        f"{source}: labels must be whole numbers from 0, one per image, or one-hot rows, "
        f"but got {actual}"
    )


def labels_of_json(text: bytes, names: Sequence[str], source: str) -> Labels:
    """Return classes from EDM's ``dataset.json``: ``{"labels": [["00000/img0.png", 6], ...]}``.

    ``"labels": null``, or no such key, means a data set without classes.

    Raises:
        DataError: if the file has another form, or lacks the label of an image.
    """
    try:
        pairs = json.loads(text).get("labels")
        label_of = None if pairs is None else {str(name): label for name, label in pairs}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f'{source}: must have the form {{"labels": [["FILE", CLASS], ...]}} of EDM\'s '
            f"dataset_tool, but reading it failed: {error}"
        ) from error
    if label_of is None:
        return None, 0
    missing = [name for name in names if name not in label_of]
    if missing:
        raise DataError(
            f"{source}: must label every image, but {len(missing)} of {len(names)} have none, "
            f"the first of them {missing[0]}; add them, or use the images without labels"
        )
    return class_labels([label_of[name] for name in names], source)


def labels_of_directories(names: Sequence[str], source: str) -> Labels:
    """Return one class per top-level directory, in alphabetical order.

    Raises:
        DataError: if an image is in no directory.
    """
    outside = next((name for name in names if "/" not in name), None)
    if outside is not None:
        raise DataError(
            f"{source}: labels come from the top-level directories, but {outside} is in none; "
            "move it, or use the images without labels"
        )
    directories = [PurePosixPath(name).parts[0] for name in names]
    classes = sorted(set(directories))
    return torch.tensor([classes.index(directory) for directory in directories]), len(classes)
