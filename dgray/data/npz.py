"""Images in a NumPy file, in the format of DG (Kim et al. 2023, arXiv 2211.17091) and ADM."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dgray.data.images import ImageSet
from dgray.data.labels import Labels, class_labels
from dgray.errors import DataError, MissingFileError

IMAGES = ("arr_0", "samples")
LABELS = ("arr_1", "label")


def read_npz(path: str | Path) -> ImageSet:
    """Read images from ``arr_0`` or ``samples``, and labels, if any, from ``arr_1`` or ``label``.

    Images are uint8 of shape (N, H, W, C), C 1 or 3; labels whole numbers from 0, or one-hot rows.
    Pickled objects are refused, so that nothing in the file is executed.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file has another format.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"{file}: must be an npz of images, but there is no such file")
    try:
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it holds one bare array")
            keys = loaded.files
            arrays = {key: loaded[key] for key in keys if key in IMAGES + LABELS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file}: must be an npz of plain numbers, but it cannot be read as one: {error}"
        ) from error
    images = _one_of(arrays, IMAGES, file)
    if images is None:
        raise DataError(
            f"{file}: must hold images under one of {', '.join(IMAGES)}, but it holds "
            f"{', '.join(keys) or 'nothing'}"
        )
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DataError(
            f"{file}: images must be uint8 of shape (N, H, W, C) with C 1 or 3, but got "
            f"{images.dtype} of shape {images.shape}"
        )
    labels, num_classes = _labels(_one_of(arrays, LABELS, file), len(images), file)
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ImageSet(file.stem, pixels, labels, num_classes)


def _one_of(
    arrays: Mapping[str, NDArray[np.generic]], keys: tuple[str, ...], file: Path
) -> NDArray[np.generic] | None:
    present = [key for key in keys if key in arrays]
    if len(present) > 1:
        raise DataError(f"{file}: must hold one of {' and '.join(present)}, but it holds both")
    return arrays[present[0]] if present else None


def _labels(values: NDArray[np.generic] | None, count: int, file: Path) -> Labels:
    if values is None:
        return None, 0
    if values.shape[:1] != (count,):
        raise DataError(
            f"{file}: must hold one label per image, but it holds labels of shape {values.shape} "
            f"for {count} images"
        )
    return class_labels(values, str(file))
