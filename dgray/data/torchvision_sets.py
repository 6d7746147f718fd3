"""Data sets of torchvision by name, read by its loaders from local files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dgray.data.images import ImageSet
from dgray.data.published_surveys import data_folder
from dgray.data.torchvision_surveys import missing_files


@dataclass(frozen=True)
class _Layout:
    """Layout of the images and labels of a class of torchvision.datasets.

    Attributes:
        parts: keyword arguments of the training and of the test part.
        axes: axes of the array of images that become (N, C, H, W); None: grey (N, H, W).
        labels: attribute with the classes.
    """

    parts: tuple[dict[str, Any], dict[str, Any]]
    axes: tuple[int, int, int, int] | None = None
    labels: str = "targets"


_BY_FLAG = ({"train": True}, {"train": False})
_BY_NAME = ({"split": "train"}, {"split": "test"})
LAYOUTS = {
    "MNIST": _Layout(_BY_FLAG),
    "FashionMNIST": _Layout(_BY_FLAG),
    "KMNIST": _Layout(_BY_FLAG),
    "USPS": _Layout(_BY_FLAG),
    "CIFAR10": _Layout(_BY_FLAG, (0, 3, 1, 2)),
    "CIFAR100": _Layout(_BY_FLAG, (0, 3, 1, 2)),
    "SVHN": _Layout(_BY_NAME, (0, 1, 2, 3), "labels"),
    "STL10": _Layout(_BY_NAME, (0, 1, 2, 3), "labels"),
}


def torchvision_images(
    name: str, root: str | Path | None = None, *, download: bool = False
) -> ImageSet:
    """Return a data set of torchvision; its test part is marked (``ImageSet.is_test``).

    Args:
        name: class of ``torchvision.datasets``, a name of ``LAYOUTS``.
        root: folder that torchvision's loader reads; None: data/ in the cache of dgray.
        download: let torchvision download missing files; otherwise nothing is downloaded.

    Raises:
        MissingFileError: if the files are missing or damaged, and are not or cannot be downloaded.
    """
    from torchvision import datasets  # slow to import, and only this needs it

    folder = data_folder() if root is None else Path(root).expanduser()
    layout, loader = LAYOUTS[name], getattr(datasets, name)
    parts = [_load(loader, name, folder, part, download) for part in layout.parts]
    pixels = np.concatenate([_pixels(part.data, layout) for part in parts])
    labels = np.concatenate([np.asarray(getattr(part, layout.labels)) for part in parts])
    counts = [len(part.data) for part in parts]
    return ImageSet(
        name,
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.from_numpy(labels.astype(np.int64)),
        int(labels.max()) + 1,
        torch.arange(sum(counts)) >= counts[0],
    )


def _load(
    loader: Callable[..., Any], name: str, folder: Path, part: dict[str, Any], download: bool
) -> Any:
    try:
        if download:
            folder.mkdir(parents=True, exist_ok=True)
        return loader(folder, download=download, **part)
    except Exception as error:  # damaged files raise errors of many classes
        reason = " ".join(str(error).split())[:200]
        raise missing_files(name, folder, reason, download=download) from error


def _pixels(data: Any, layout: _Layout) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.asarray(data, dtype=np.uint8)
    return array[:, None] if layout.axes is None else array.transpose(layout.axes)
