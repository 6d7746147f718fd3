"""CIFAR-10 (Krizhevsky 2009) through torchvision's loader, with its checks of every file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from dgray.data.images import ImageSet


def data_folder() -> Path:
    """Where downloads are kept: $DGRAY_CACHE/data, or dgray/data in the user's cache."""
    if own := os.environ.get("DGRAY_CACHE"):
        return Path(own).expanduser() / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgray" / "data"


def cifar10(root: str | Path | None = None, *, download: bool = True) -> ImageSet:
    """50,000 training and 10,000 test images of 32 x 32 in colour, ten classes.

    The test images are marked as such (``ImageSet.is_test``), so that validation and held-out
    images are none that a published model was trained on.

    Args:
        root: the folder that holds, or will hold, ``cifar-10-batches-py``; None: the cache
            (``data_folder``).
        download: fetch the archive (163 MB) if the files are not there.

    Raises:
        FileNotFoundError: the files are missing or damaged, and could not or must not be fetched.
    """
    from torchvision.datasets import CIFAR10  # slow to import, and only this needs it

    folder = data_folder() if root is None else Path(root).expanduser()
    try:
        if download:
            folder.mkdir(parents=True, exist_ok=True)
        parts = [CIFAR10(folder, train=train, download=download) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        attempt = f"and fetching {CIFAR10.url} failed ({error})" if download else f"({error})"
        raise FileNotFoundError(
            f"CIFAR-10 is not, or not whole, in {folder} {attempt}; download {CIFAR10.filename} "
            f"(md5 {CIFAR10.tgz_md5}) from {CIFAR10.url} on any machine and unpack it there, so "
            f"that {folder / CIFAR10.base_folder / 'data_batch_1'} exists"
        ) from error
    pixels = np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2)
    return ImageSet(
        "CIFAR-10",
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.tensor([label for part in parts for label in part.targets]),
        len(parts[0].classes),
        torch.cat([torch.full((len(part),), not part.train) for part in parts]),
    )
