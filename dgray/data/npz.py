"""Images in a NumPy file, in the format of DG (Kim et al. 2023, arXiv 2211.17091) and ADM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dgray.data.images import ImageSet
from dgray.data.npz_arrays import open_npz


def read_npz(path: str | Path) -> ImageSet:
    """Read images from ``arr_0`` or ``samples``, and labels, if any, from ``arr_1`` or ``label``.

    Images are uint8 of shape (N, H, W, C), C 1 or 3; labels whole numbers from 0, or one-hot rows.
    Pickled objects are refused, so that nothing in the file is executed.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file has another format.
    """
    with open_npz(path) as content:
        images, classes = content.images(), content.classes()
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ImageSet.of(Path(path).stem, pixels, classes)
