"""Decoding of one image file into the pixels that a viewer shows. No torch.

The orientation of a camera is applied, transparent pixels are blended over white, colours are
converted from the profile of the file to sRGB, and 16 bits are reduced to 8. A gamma or primaries
of a PNG without a profile are not applied, as in most viewers and libraries; they are reported.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from dgray.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP")  # others could call external programs
MAX_BYTES = 2**30  # of a file; one in a zip could unpack to any size
GREY = ("1", "L", "LA", "La", "I")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")

# Changes to an image, as phrases after the number of images.
ROTATED = "turned upright as their EXIF orientation states"
BLENDED = "with transparent pixels, blended over white"
REDUCED = "reduced from 16 to 8 bits per channel"
CONVERTED = "converted from their colour profile to sRGB"
INKS = "converted from CMYK without a colour profile"
UNAPPLIED = "with a gamma or primaries (gAMA, cHRM) unlike those of sRGB, which are not applied"
ANIMATED = "animated: only their first frame is read"
ENLARGED = "enlarged"

# Gamma of a PNG, and x and y of white, red, green and blue.
_SRGB = (1 / 2.2, 0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME = 0.01


class Header(NamedTuple):
    """Size of an image as it will be decoded; ``is_grey``: it has one channel."""

    height: int
    width: int
    is_grey: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the image alone."""
        return (1 if self.is_grey else 3), self.height, self.width


def read_header(stream: BinaryIO) -> Header:
    """Return the size of an image, without decoding its pixels where the format permits.

    Raises:
        DataError: if it is damaged or of another format.
    """
    try:
        with _opened(stream) as image:
            width, height = image.size
            if width != height and _orientation(image) >= 5:  # turned by 90 degrees
                width, height = height, width
            return Header(height, width, _is_grey(image.mode))
    except Exception as error:  # Pillow raises errors of many classes for damaged files
        raise _unreadable(error) from error


def decode(
    stream: BinaryIO, *, grey: bool, resize: int | None
) -> tuple[NDArray[np.uint8], set[str]]:
    """Return the pixels of an image, shape (C, H, W), and what was changed.

    Args:
        stream: the file.
        grey: whether to return one channel instead of three.
        resize: height and width to which it is resized (Lanczos, antialiased); None: no resizing.

    Raises:
        DataError: if it is damaged, of another format, or not square but to be resized.
    """
    try:
        content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"a file must have at most {MAX_BYTES:,} bytes")
        with _opened(io.BytesIO(content)) as opened:
            changes = {REDUCED} if ";16" in str(getattr(opened, "tile", "")) else set()
            opened.load()
            image = _as_seen(_upright(opened, changes), opened, changes)
    except Exception as error:  # Pillow raises errors of many classes for damaged files
        raise _unreadable(error) from error
    if opened.format == "PNG" and _states_other_colours(opened.info):
        changes.add(UNAPPLIED)
    image = image.convert("L" if grey else "RGB")
    if resize is not None and image.size != (resize, resize):
        if max(image.size) < resize:
            changes.add(ENLARGED)
        image = image.resize((resize, resize), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)), changes


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """Open an image without warnings, such as those about damaged EXIF data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(stream, formats=FORMATS) as image:
            yield image


def _unreadable(error: Exception) -> DataError:
    if isinstance(error, UnidentifiedImageError):
        return DataError("cannot be read as an image: it is neither PNG nor JPEG nor WebP")
    return DataError(f"cannot be read as an image: {error}")


def _is_grey(mode: str) -> bool:
    if mode not in GREY + COLOUR and not mode.startswith("I;16"):
        raise ValueError(f"channels must have 8 or 16 bits, but its mode is {mode!r} (Pillow)")
    return mode not in COLOUR


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data, which viewers of images ignore
        return 1


def _upright(opened: Image.Image, changes: set[str]) -> Image.Image:
    """Return the first frame of an image as its orientation states; add what was changed."""
    if opened.format != "JPEG" and getattr(opened, "is_animated", False):
        changes.add(ANIMATED)  # a JPEG of several frames has previews, or views of other lenses
    if _orientation(opened) not in range(2, 9):
        return opened
    changes.add(ROTATED)
    return ImageOps.exif_transpose(opened)


def _as_seen(image: Image.Image, opened: Image.Image, changes: set[str]) -> Image.Image:
    """Return an image of mode L or RGB with the colours that a viewer shows."""
    is_grey = _is_grey(opened.mode)
    if opened.mode.startswith("I"):  # Pillow would clip it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] != 255:
            changes.add(BLENDED)
            rgba = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba)
        image = rgba.convert("RGB")
    if image.mode not in ("1", "L", "CMYK"):
        image = image.convert("L" if is_grey else "RGB")
    return _in_srgb(image, opened.info.get("icc_profile"), changes)


def _states_other_colours(info: Mapping[str | tuple[int, int], Any]) -> bool:
    """Return whether a PNG without a profile states other colours than sRGB, by its chunks.

    Its pixels are used as they are stored: viewers differ, and many files state a wrong gamma.
    """
    if "icc_profile" in info or "srgb" in info:  # which take precedence
        return False
    numbers = [info.get("gamma", _SRGB[0]), *info.get("chromaticity", _SRGB[1:])]
    return any(abs(a - b) > _SAME for a, b in zip(numbers, _SRGB, strict=True))


def _in_srgb(image: Image.Image, content: bytes | None, changes: set[str]) -> Image.Image:
    """Return an image with its colours converted to sRGB; a damaged profile is ignored."""
    if content:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
            if "srgb" in ImageCms.getProfileDescription(profile).lower():
                return image
            converted = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):  # as viewers of images do
            converted = None
        if converted is not None:
            changes.add(CONVERTED)
            return converted
    if image.mode == "CMYK":
        changes.add(INKS)
    return image
