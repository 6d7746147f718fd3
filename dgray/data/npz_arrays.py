"""Arrays of an npz file of images, read without executing anything. No torch."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgray.data.labels import Classes, class_labels
from dgray.errors import DataError, MissingFileError

IMAGES = ("arr_0", "samples")
LABELS = ("arr_1", "label")
SUFFIX = ".npy"


@dataclass(frozen=True)
class NpzContent:
    """Open npz file of images.

    Attributes:
        file: its path.
        archive: its arrays, as a zip file.
        image_shape: (N, H, W, C) of the images, C 1 or 3.
    """

    file: Path
    archive: zipfile.ZipFile
    image_shape: tuple[int, int, int, int]

    def images(self) -> NDArray[np.uint8]:
        """Return the images, shape (N, H, W, C)."""
        name = _one_of(self.archive, IMAGES, self.file)
        assert name is not None  # open_npz has read its header
        return np.asarray(_array(self.archive, name, self.file), dtype=np.uint8)

    def classes(self) -> Classes:
        """Return the classes of the images.

        Raises:
            DataError: if there is not one valid label per image.
        """
        name = _one_of(self.archive, LABELS, self.file)
        if name is None:
            return Classes()
        values, count = _array(self.archive, name, self.file), self.image_shape[0]
        if values.shape[:1] != (count,):
            raise DataError(
                f"{self.file}: must hold one label per image, but it holds labels of shape "
                f"{values.shape} for {count} images"
            )
        return class_labels(values, str(self.file))


def plain_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays of an npz file by name.

    Raises:
        DataError: if it is no npz file of plain numbers or text, or does not fit into memory.
    """
    with _open_archive(path) as archive:
        names = [n.removesuffix(SUFFIX) for n in archive.namelist() if n.endswith(SUFFIX)]
        return {name: _array(archive, name, path) for name in names}


@contextmanager
def open_npz(path: str | Path) -> Iterator[NpzContent]:
    """Open a file and check the header of its images.

    Raises:
        MissingFileError: if there is no such file.
        DataError: if the file has another format.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"{file}: must be an npz of images, but there is no such file")
    with _open_archive(file) as archive:
        yield NpzContent(file, archive, _image_shape(archive, file))


def _open_archive(file: Path) -> zipfile.ZipFile:
    try:
        with file.open("rb") as stream:
            if stream.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise ValueError("it holds one bare array; write it with numpy.savez")
        return zipfile.ZipFile(file)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise _unreadable(file, error) from error


def _image_shape(archive: zipfile.ZipFile, file: Path) -> tuple[int, int, int, int]:
    name = _one_of(archive, IMAGES, file)
    if name is None:
        names = ", ".join(entry.removesuffix(SUFFIX) for entry in archive.namelist())
        raise DataError(
            f"{file}: must hold images under one of {', '.join(IMAGES)}, but it holds "
            f"{names or 'nothing'}"
        )
    shape, dtype = _header(archive, name, file)
    if dtype != np.uint8 or len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape:
        is_first = len(shape) == 4 and shape[1] in (1, 3)
        hint = "; move the channels last: images.transpose(0, 2, 3, 1)" if is_first else ""
        raise DataError(
            f"{file}: images must be uint8 of shape (N, H, W, C) with C 1 or 3, but got "
            f"{dtype} of shape {shape}{hint}"
        )
    count, height, width, channels = shape
    return count, height, width, channels


def _header(
    archive: zipfile.ZipFile, name: str, file: Path
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array that its entry holds and the memory can hold."""
    try:
        with archive.open(name + SUFFIX) as stream:
            version = np.lib.format.read_magic(stream)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0", None)
            if read is None:
                raise ValueError(f"format {version}")
            shape, _, dtype = read(stream)
            needed = math.prod(shape) * dtype.itemsize
            held = archive.getinfo(name + SUFFIX).file_size - stream.tell()
    except Exception as error:  # damaged entries raise errors of many classes
        raise _unreadable(file, error) from error
    if needed != held and not dtype.hasobject:
        raise _unreadable(file, f"{name} should hold {needed} bytes, but it holds {held}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise DataError(
            f"{file}: {name} must fit into memory, but it takes {needed / 2**30:.1f} GiB of "
            f"{memory / 2**30:.1f}; use data.kind folder or zip"
        )
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str, file: Path) -> NDArray[Any]:
    _header(archive, name, file)
    try:
        with archive.open(name + SUFFIX) as stream:
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
    except Exception as error:  # damaged entries raise errors of many classes
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: object) -> DataError:
    return DataError(
        f"{file}: must be an npz of plain numbers, but it cannot be read as one: {error}"
    )


def _one_of(archive: zipfile.ZipFile, keys: tuple[str, ...], file: Path) -> str | None:
    present = [key for key in keys if key + SUFFIX in archive.namelist()]
    if len(present) > 1:
        raise DataError(f"{file}: must hold one of {' and '.join(present)}, but it holds both")
    return present[0] if present else None
