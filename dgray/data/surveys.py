"""Surveys of images in files: their summaries, before any pixel is read. No torch.

``DataSpec.survey`` names the survey of a data set; it takes the arguments of the factory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dgray.data.listing import Listing, open_folder, open_zip
from dgray.data.summary import DataSummary, class_counts, printable

if TYPE_CHECKING:
    from dgray.data.labels import Classes, LabelSource


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
    from dgray.data.npz_arrays import open_npz  # NumPy

    with open_npz(path) as content:
        count, height, width, channels = content.image_shape
        classes = content.classes()
    return _summary(Path(path).stem, count, (channels, height, width), classes)


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
    from dgray.data.image_headers import common_shape, read_headers  # NumPy and Pillow
    from dgray.data.labels import classes_of

    classes = classes_of(listing, labels)
    headers = read_headers(listing)
    shape, remarks = common_shape(listing, headers, resize)
    remarks += listing.remarks
    return _summary(listing.name, len(headers), shape, classes, remarks)
