"""Surveys of published data sets. No torch, and no NumPy, which plans start faster without."""

from __future__ import annotations

import os
from pathlib import Path

from dgray.data.summary import DataSummary
from dgray.errors import MissingFileError

CIFAR10_FOLDER = "cifar-10-batches-py"
DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each class


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
