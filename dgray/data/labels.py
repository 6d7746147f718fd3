"""Classes of a user's images: from numbers, from EDM's ``dataset.json``, from folder names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

Labels = tuple[Tensor | None, int]  # int64 of shape (N,), and the number of classes; or None, 0


def class_labels(values: Any, source: str) -> Labels:
    """Classes from whole numbers (N,), or from one-hot rows (N, number of classes).

    The number of classes is the largest label plus one, or the length of a row.

    Raises:
        ValueError: the values are neither.
    """
    try:
        array = np.asarray(values)
        wrong = f"an array of {array.dtype}, shape {array.shape}"
    except ValueError:  # rows of different lengths
        array, wrong = np.empty(0, dtype=object), "values of different lengths"
    if array.ndim == 2 and array.dtype.kind in "biuf":
        one_hot = ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()
        if one_hot:
            return torch.from_numpy(array.argmax(axis=1).astype(np.int64)), array.shape[1]
        wrong = "rows that are not one-hot"
    elif array.ndim == 1 and array.dtype.kind in "iu" and len(array):
        if array.min() >= 0:
            return torch.from_numpy(array.astype(np.int64)), int(array.max()) + 1
        wrong = f"the label {array.min()}"
    raise ValueError(
        f"{source}: labels must be whole numbers from 0, one per image, or one-hot rows, "
        f"but got {wrong}"
    )


def labels_of_json(text: bytes, names: Sequence[str], source: str) -> Labels:
    """Labels from EDM's ``dataset.json``: ``{"labels": [["00000/img00000000.png", 6], ...]}``.

    ``"labels": null``, or none at all, means a data set without classes.

    Raises:
        ValueError: it is something else, or an image has no label in it.
    """
    try:
        pairs = json.loads(text).get("labels")
        label_of = None if pairs is None else {str(name): label for name, label in pairs}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{source}: must read {{"labels": [["FILE", CLASS], ...]}} as EDM\'s dataset_tool '
            f"writes it, but this failed: {error}"
        ) from error
    if label_of is None:
        return None, 0
    missing = [name for name in names if name not in label_of]
    if missing:
        raise ValueError(
            f"{source}: must label every image, but {len(missing)} of {len(names)} have none, the "
            f"first being {missing[0]}; add them, or use the images without labels"
        )
    return class_labels([label_of[name] for name in names], source)


def labels_of_directories(names: Sequence[str], source: str) -> Labels:
    """One class per directory at the top, in alphabetical order.

    Raises:
        ValueError: an image lies in no directory.
    """
    outside = next((name for name in names if "/" not in name), None)
    if outside is not None:
        raise ValueError(
            f"{source}: labels come from the directories at the top, but {outside} lies in none; "
            "move it, or use the images without labels"
        )
    tops = [PurePosixPath(name).parts[0] for name in names]
    classes = sorted(set(tops))
    return torch.tensor([classes.index(top) for top in tops]), len(classes)
