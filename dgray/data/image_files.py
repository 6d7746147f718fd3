"""Image files, PNG, JPEG or WebP, in a folder or in a zip file, which is read without unpacking.

Grey images keep one channel, all others become RGB; transparency is dropped, not blended. Files
are read in the alphabetical order of their paths.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dgray.data.images import ImageSet
from dgray.data.labels import Labels, labels_of_directories, labels_of_json
from dgray.errors import DataError, MissingFileError

LabelSource = Literal["auto", "dataset.json", "directories", "none"]
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
INDEX = "dataset.json"
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)


def read_folder(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> ImageSet:
    """Read all images below a folder.

    Args:
        path: the folder.
        resize: height and width to which square images are resized (Lanczos, antialiased); None:
            no resizing.
        labels: source of the classes. ``dataset.json``: EDM's file at the top. ``directories``:
            the top-level directories, one class each. ``auto``: the first of these that exists
            (directories if every image is in one of several). ``none``: no classes.

    Raises:
        MissingFileError: if there is no such folder, or no image in it.
        DataError: if an image is damaged, or has another size or number of channels than the
            first, or labels are missing.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise MissingFileError(f"{root}: must be a folder of images, but there is no such folder")
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    return _read(root, names, lambda name: (root / name).read_bytes(), resize, labels)


def read_zip(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> ImageSet:
    """Read all images of a zip file, such as one of EDM's ``dataset_tool.py``.

    Arguments as of ``read_folder``.

    Raises:
        MissingFileError: if there is no such file, or no image in it.
        DataError: as ``read_folder``, or if the file is not a zip.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"{file}: must be a zip of images, but there is no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            return _read(file, names, archive.read, resize, labels)
    except zipfile.BadZipFile as error:
        raise DataError(f"{file}: must be a zip file, but it is not readable: {error}") from error


def _read(
    source: Path,
    files: Sequence[str],
    read: Callable[[str], bytes],
    resize: int | None,
    label_source: LabelSource,
) -> ImageSet:
    names = sorted(name for name in files if name.lower().endswith(SUFFIXES))
    if not names:
        raise MissingFileError(
            f"{source}: must hold images ({', '.join(SUFFIXES)}), but it holds none"
        )
    index = f"{source}: {INDEX}"
    if label_source == "dataset.json" and INDEX not in files:
        raise DataError(f"{index} must exist to give the labels, but it does not")
    text = read(INDEX) if INDEX in files and label_source in ("auto", "dataset.json") else None
    labels, num_classes = _labels(text, names, label_source, source)
    first = _decode(read, names[0], resize, source)
    pixels = np.empty((len(names), *first.shape), dtype=np.uint8)
    for i, name in enumerate(names):
        image = _decode(read, name, resize, source)
        if image.shape != first.shape:
            raise DataError(
                f"{source}: all images must have the shape (C, H, W) of the first, but {names[0]} "
                f"has {first.shape} and {name} has {image.shape}; give a size to resize square "
                "images to, or convert them to one size and colour mode"
            )
        pixels[i] = image
    return ImageSet(source.stem, torch.from_numpy(pixels), labels, num_classes)


def _labels(
    text: bytes | None, names: Sequence[str], label_source: LabelSource, source: Path
) -> Labels:
    if text is not None:
        return labels_of_json(text, names, f"{source}: {INDEX}")
    tops = {name.split("/")[0] if "/" in name else "" for name in names}
    in_directories = len(tops) > 1 and "" not in tops
    if label_source == "directories" or (label_source == "auto" and in_directories):
        return labels_of_directories(names, str(source))
    return None, 0


def _decode(
    read: Callable[[str], bytes], name: str, resize: int | None, source: Path
) -> NDArray[np.uint8]:
    """Return one image, shape (C, H, W)."""
    try:
        with Image.open(io.BytesIO(read(name))) as opened:
            image = _in_bytes(opened)
    except _DAMAGE as error:
        raise DataError(f"{source}: {name} cannot be read as an image: {error}") from error
    if resize is not None and image.size != (resize, resize):
        if image.width != image.height:
            raise DataError(
                f"{source}: only square images are resized, but {name} is {image.width} wide and "
                f"{image.height} high; crop it first"
            )
        image = image.resize((resize, resize), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _in_bytes(image: Image.Image) -> Image.Image:
    """Convert to one or three channels of bytes."""
    if image.mode in _GREY:
        return image.convert("L")
    if image.mode not in _COLOUR:
        raise DataError(
            f"channels must have 8 bits, but its mode is {image.mode!r} (Pillow's name)"
        )
    # Pillow converts a palette with transparent entries to RGB only through RGBA.
    return (image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB")
