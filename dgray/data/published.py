"""Published data sets, read by the libraries that include or download them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dgray.data.images import ImageSet
from dgray.data.published_surveys import data_folder
from dgray.errors import MissingFileError


def digits() -> ImageSet:
    """Return 1,797 grey images of 8 x 8, labels 0 to 9, from scikit-learn.

    The optical digits of Alpaydin and Kaynak 1998 (UCI). Their 17 shades 0..16 become the bytes
    round(255 shade / 16), from which shade = round(16 byte / 255) is recovered exactly.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this needs it

    shades, labels = load_digits(return_X_y=True)
    pixels = np.rint(shades * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return ImageSet(
        "digits", torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)), 10
    )


def cifar10(root: str | Path | None = None, *, download: bool = True) -> ImageSet:
    """Return CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test colour images, 32 x 32.

    The test images are marked (``ImageSet.is_test``), so that no validation or held-out image is
    one on which a published model was trained. torchvision verifies the checksum of every file.

    Args:
        root: folder with ``cifar-10-batches-py``, or for its download; None: ``data_folder()``.
        download: download the archive (163 MB) if the files are missing.

    Raises:
        MissingFileError: if the files are missing or damaged, and are not or cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10  # slow to import, and only this needs it

    folder = data_folder() if root is None else Path(root).expanduser()
    try:
        if download:
            folder.mkdir(parents=True, exist_ok=True)
        parts = [CIFAR10(folder, train=train, download=download) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        cause = f"and downloading {CIFAR10.url} failed ({error})" if download else f"({error})"
        raise MissingFileError(
            f"CIFAR-10 is missing or incomplete in {folder} {cause}; download {CIFAR10.filename} "
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
