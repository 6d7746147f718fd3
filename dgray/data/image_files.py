"""Image files of a user, in a folder or in a zip (which is never unpacked): PNG, JPEG, WebP.

Grey images keep one channel, all others become RGB; transparency is dropped, not blended. Files
are taken in the alphabetical order of their paths.
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

LabelSource = Literal["auto", "dataset.json", "directories", "none"]
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
INDEX = "dataset.json"
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, zipfile.BadZipFile)


def read_folder(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> ImageSet:
    """All images below a folder.

    Args:
        path: the folder.
        resize: height and width to bring square images to (Lanczos, with antialiasing); None: as
            they are.
        labels: where classes come from. ``dataset.json``: EDM's file at the top. ``directories``:
            the directories at the top, one class each. ``auto``: the first of these that is there
            (directories if every image lies in one, and there are several). ``none``: no classes.

    Raises:
        FileNotFoundError: no folder, or no images in it.
        ValueError: an image is damaged, or of another size or number of channels than the first;
            labels are missing.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: must be a folder of images, but there is none")
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    return _read(root, names, lambda name: (root / name).read_bytes(), resize, labels)


def read_zip(
    path: str | Path, *, resize: int | None = None, labels: LabelSource = "auto"
) -> ImageSet:
    """All images of a zip, such as EDM's ``dataset_tool.py`` makes; otherwise as ``read_folder``.

    Raises:
        FileNotFoundError: no file, or no images in it.
        ValueError: as ``read_folder``; or the file is no zip.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: must be a zip of images, but there is no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            return _read(file, names, archive.read, resize, labels)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file}: must be a zip, but it is damaged or none: {error}") from error


def _read(
    source: Path,
    files: Sequence[str],
    read: Callable[[str], bytes],
    resize: int | None,
    label_source: LabelSource,
) -> ImageSet:
    names = sorted(name for name in files if name.lower().endswith(SUFFIXES))
    if not names:
        raise FileNotFoundError(
            f"{source}: must hold images ({', '.join(SUFFIXES)}), but it holds none"
        )
    index = f"{source}: {INDEX}"
    if label_source == "dataset.json" and INDEX not in files:
        raise ValueError(f"{index} must be there to give the labels, but it is not")
    text = read(INDEX) if INDEX in files and label_source in ("auto", "dataset.json") else None
    labels, num_classes = _labels(text, names, label_source, source)
    first = _decode(read, names[0], resize, source)
    pixels = np.empty((len(names), *first.shape), dtype=np.uint8)
    for i, name in enumerate(names):
        image = _decode(read, name, resize, source)
        if image.shape != first.shape:
            raise ValueError(
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
    """One image, shape (C, H, W)."""
    try:
        with Image.open(io.BytesIO(read(name))) as opened:
            image = _in_bytes(opened)
    except _DAMAGE as error:
        raise ValueError(f"{source}: {name} cannot be read as an image: {error}") from error
    if resize is not None and image.size != (resize, resize):
        if image.width != image.height:
            raise ValueError(
                f"{source}: only square images are resized, but {name} is {image.width} wide and "
                f"{image.height} high; crop it first"
            )
        image = image.resize((resize, resize), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _in_bytes(image: Image.Image) -> Image.Image:
    """As one or three channels of bytes."""
    if image.mode in _GREY:
        return image.convert("L")
    if image.mode not in _COLOUR:
        raise ValueError(
            f"channels must have 8 bits, but its mode is {image.mode!r} (Pillow's name)"
        )
    # A palette may hold transparent entries, which Pillow wants to go through RGBA.
    return (image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB")
