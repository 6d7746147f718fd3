"""Letters of the DejaVu fonts that matplotlib includes: about 22,700 grey images, offline.

Latin, Greek, Cyrillic, Armenian, Georgian, Arabic, Tifinagh, Canadian syllabics and others; each
letter in up to twelve faces. A varied data set that needs no download.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import ImageFont

from dgray.data.images import ImageSet
from dgray.data.published_surveys import survey_glyphs
from dgray.errors import MissingFileError

FACES = tuple(
    f"DejaVu{family}"
    for family in (
        *("Sans", "Sans-Oblique", "Sans-Bold", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Oblique", "SansMono-Bold", "SansMono-BoldOblique"),
        *("Serif", "Serif-Italic", "Serif-Bold", "Serif-BoldItalic"),
    )
)
# Share of the image; most letters come near the border, and 3 % are too large and left out.
EM = 0.875


def glyphs(size: int) -> ImageSet:
    """Return the distinct letters of twelve faces, white on black, one channel, with face labels.

    A letter is a character of a Unicode category L*. It is rendered alone (basic layout of Pillow,
    em of 7/8 of the image), cropped to its ink and centred. Letters that are larger than the
    image, empty, or equal to an earlier image (Latin, Greek and Cyrillic A) are left out. The
    order is by face, then code point. The bytes depend only on the versions of matplotlib (its
    fonts) and Pillow (FreeType).

    The label is the face (twelve classes of 1,400 to 2,800 images), since a letter has too few
    images for a class, while weight, slant, serifs and width are visible in every image. A
    classifier of faces, and a distance on its features, is sensitive to the quality of strokes
    but not to which letter an image shows.

    Args:
        size: height and width in pixels: 16, 28 or 32.

    Raises:
        DataError: if ``size`` is another number.
        MissingFileError: if the installed matplotlib lacks its fonts.
    """
    name = survey_glyphs(size).name
    images: dict[bytes, int] = {}  # to the label, in the order of insertion
    for label, face in enumerate(FACES):
        for image in _render(face, size):
            images.setdefault(image, label)
    pixels = np.frombuffer(bytearray(b"".join(images)), dtype=np.uint8)
    return ImageSet(
        name,
        torch.from_numpy(pixels.reshape(-1, 1, size, size)),
        torch.tensor(list(images.values())),
        len(FACES),
    )


def _render(face: str, size: int) -> list[bytes]:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise MissingFileError(
            f"{path}: glyphs are rendered from the DejaVu fonts of matplotlib, but this one "
            "is missing; install matplotlib from PyPI or conda-forge, which include them"
        )
    letters = filter(_is_letter, map(chr, sorted(FT2Font(str(path)).get_charmap())))
    font = ImageFont.truetype(path, round(size * EM), layout_engine=ImageFont.Layout.BASIC)
    centred = (_centre(_ink(font, letter), size) for letter in letters)
    return [image.tobytes() for image in centred if image is not None]


def _is_letter(character: str) -> bool:
    return unicodedata.category(character).startswith("L")


def _ink(font: ImageFont.FreeTypeFont, letter: str) -> NDArray[np.uint8]:
    """Return the grey values of a letter, (h, w), cropped to its ink; 0 x 0 if there is none."""
    mask = font.getmask(letter, mode="L")
    width, height = mask.size
    grey = np.array(mask, dtype=np.uint8).reshape(height, width)
    rows, columns = np.flatnonzero(grey.any(axis=1)), np.flatnonzero(grey.any(axis=0))
    if len(rows) == 0:
        return np.zeros((0, 0), dtype=np.uint8)
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centre(ink: NDArray[np.uint8], size: int) -> NDArray[np.uint8] | None:
    height, width = ink.shape
    if height == 0 or max(height, width) > size:
        return None
    image = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    image[top : top + height, left : left + width] = ink
    return image
