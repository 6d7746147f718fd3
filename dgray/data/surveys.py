"""Surveys of data sets: their summaries, before any pixel is read. No torch.

``DataSpec.survey`` names the survey of a data set; it takes the arguments of the factory.
"""

from __future__ import annotations

import os
from pathlib import Path

from dgray.data.image_headers import common_shape, read_headers
from dgray.data.labels import Classes, LabelSource, classes_of
from dgray.data.listing import Listing, open_folder, open_zip
from dgray.data.npz_arrays import open_npz
from dgray.data.summary import DataSummary, class_counts, printable
from dgray.errors import MissingFileError

CIFAR10_FOLDER = "cifar-10-batches-py"
DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each class


def survey_folder(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> DataSummary:
    """Return the summary of ``read_folder`` with the same arguments, from headers.

    Raises:
        MissingFileError: if there is no such folder, or no image in it.
        DataError: if a header is damaged, sizes differ, or labels are wrong.
    """
    with open_folder(path) as listing:
        return _survey(listing, resize, labels)


def survey_zip(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> DataSummary:
    """Return the summary of ``read_zip`` with the same arguments, from headers.

    Raises:
        MissingFileError: if there is no such file, or no image in it.
        DataError: as ``survey_folder``, or if the file is not a zip.
    """
    with open_zip(path) as listing:
        return _survey(listing, resize, labels)


def survey_npz(path: str | Path) -> DataSummary:
    """Return the summary of ``read_npz``, from the header of its images, and its labels.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file has another format.
    """
    with open_npz(path) as content:
        count, height, width, channels = content.image_shape
        classes = content.classes()
    return _summary(Path(path).stem, count, (channels, height, width), classes)


def survey_digits() -> DataSummary:
    """Return the summary of the digits."""
    classes = {str(digit): count for digit, count in enumerate(DIGITS)}
    return DataSummary("digits", sum(DIGITS), (1, 8, 8), classes)


def survey_cifar10(root: str | Path | None = None, *, download: bool = True) -> DataSummary:
    """Return the summary of CIFAR-10, with a remark if it will be downloaded.

    Raises:
        MissingFileError: if it is missing and is not to be downloaded.
    """
    folder = data_folder() if root is None else Path(root).expanduser()
    is_present = (folder / CIFAR10_FOLDER / "data_batch_1").is_file()
    if not is_present and not download:
        raise MissingFileError(
            f"CIFAR-10 is missing in {folder}; set data.download: true, or unpack it there, so "
            f"that {folder / CIFAR10_FOLDER / 'data_batch_1'} exists"
        )
    remarks = () if is_present else (f"will be downloaded (163 MB) to {folder}",)
    classes = {str(label): 6_000 for label in range(10)}
    return DataSummary("CIFAR-10", 60_000, (3, 32, 32), classes, remarks, num_test=10_000)


def data_folder() -> Path:
    """Return the folder of downloads: $DGRAY_CACHE/data, or dgray/data in the user's cache."""
    if folder := os.environ.get("DGRAY_CACHE"):
        return Path(folder).expanduser() / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgray" / "data"


def _summary(
    name: str,
    count: int,
    shape: tuple[int, int, int],
    classes: Classes,
    remarks: tuple[str, ...] = (),
) -> DataSummary:
    labels = classes.labels
    counts = None if labels is None else class_counts(classes.names, labels.tolist())
    return DataSummary(printable(name), count, shape, counts, (*classes.remarks, *remarks))


def _survey(listing: Listing, resize: int | None, labels: LabelSource) -> DataSummary:
    classes = classes_of(listing, labels)
    headers = read_headers(listing)
    shape, remarks = common_shape(listing, headers, resize)
    remarks += listing.remarks
    return _summary(listing.name, len(headers), shape, classes, remarks)
