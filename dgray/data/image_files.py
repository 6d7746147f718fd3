"""Image files, PNG, JPEG or WebP, in a folder or in a zip file, which is read without unpacking.

Images have one channel if all are grey, otherwise three. Each is read as its owner sees it
(``dgray.data.decoding``). Files are read in the alphabetical order of their paths.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from dgray.data.decoding import decode
from dgray.data.image_headers import common_shape, read_each, read_headers
from dgray.data.images import ImageSet
from dgray.data.labels import LabelSource, classes_of
from dgray.data.listing import Listing, open_folder, open_zip
from dgray.data.summary import counted


def read_folder(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> ImageSet:
    """Read all images below a folder, except hidden and system files.

    Args:
        path: the folder.
        resize: height and width to which square images are resized (Lanczos, antialiased); None:
            no resizing.
        labels: source of the classes. ``dataset.json``: EDM's file, beside or above the images.
            ``directories``: the directories in the folder that contains all images, one class
            each. ``auto``: the first of these that exists (directories if every image is in one
            of several). ``none``: no classes.

    Raises:
        MissingFileError: if there is no such folder, or no image in it.
        DataError: if an image is damaged or has another size than the first, or labels are
            missing or wrong.
    """
    with open_folder(path) as listing:
        return _read(listing, resize, labels)


def read_zip(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> ImageSet:
    """Read all images of a zip file, such as one of EDM's ``dataset_tool.py``.

    Arguments as of ``read_folder``.

    Raises:
        MissingFileError: if there is no such file, or no image in it.
        DataError: as ``read_folder``, or if the file is not a zip.
    """
    with open_zip(path) as listing:
        return _read(listing, resize, labels)


def _read(listing: Listing, resize: int | None, labels: LabelSource) -> ImageSet:
    classes = classes_of(listing, labels)
    headers = read_headers(listing)
    shape, remarks = common_shape(listing, headers, resize)
    pixels = np.empty((len(headers), *shape), dtype=np.uint8)
    changes: Counter[str] = Counter()
    images = read_each(listing, lambda f: decode(f, grey=shape[0] == 1, resize=resize))
    for index, (image, changed) in enumerate(images):
        pixels[index] = image
        changes.update(changed)
    remarks += tuple(f"{counted(n, 'image')} {change}" for change, n in sorted(changes.items()))
    remarks += listing.remarks
    return ImageSet.of(listing.name, torch.from_numpy(pixels), classes, remarks)
