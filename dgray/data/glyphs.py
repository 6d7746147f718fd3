"""Letters of the DejaVu fonts that come with matplotlib: some 22,700 grey images, offline.

Latin, Greek, Cyrillic, Armenian, Georgian, Arabic, Tifinagh, Canadian syllabics and others; every
letter in up to twelve faces. A free set of natural variety at any size, in place of a download.
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

FACES = tuple(
    f"DejaVu{family}"
    for family in (
        *("Sans", "Sans-Oblique", "Sans-Bold", "Sans-BoldOblique"),
        *("SansMono", "SansMono-Oblique", "SansMono-Bold", "SansMono-BoldOblique"),
        *("Serif", "Serif-Italic", "Serif-Bold", "Serif-BoldItalic"),
    )
)
SIZES = (16, 28, 32)
# Of the image: most letters come near the border, and 3 % are too large (they are left out).
EM = 0.875


def glyphs(size: int) -> ImageSet:
    """All distinct letters of twelve faces, white on black, one channel; labels: the face.

    A letter is a character of a Unicode category L*. It is rendered alone (Pillow's basic layout,
    the font's em 7/8 of the image), cropped to its ink and centred; what is larger than the image,
    empty, or pixel for pixel an earlier image (Latin, Greek and Cyrillic A) is left out. Ordered
    by face, then code point. The bytes depend on the versions of matplotlib (its fonts) and Pillow
    (FreeType); with the same versions they are the same everywhere.

    The label is the face (twelve classes of 1,400 to 2,800 images), because every image has one
    and a single image shows it: weight, slant, serifs, width. A letter has too few images for a
    class. A classifier of faces, and a distance on its features, sees the quality of strokes;
    it is told nothing of which letter an image shows.

    Args:
        size: height and width in pixels: 16, 28 or 32.

    Raises:
        ValueError: another size.
        FileNotFoundError: this matplotlib comes without its fonts.
    """
    if size not in SIZES:
        raise ValueError(f"glyphs come in {', '.join(map(str, SIZES))} pixels, but got {size}")
    images: dict[bytes, int] = {}  # to the label; keeps the order of insertion
    for label, face in enumerate(FACES):
        for image in _render(face, size):
            images.setdefault(image, label)
    pixels = np.frombuffer(bytearray(b"".join(images)), dtype=np.uint8)
    return ImageSet(
        f"glyphs of {size} pixels",
        torch.from_numpy(pixels.reshape(-1, 1, size, size)),
        torch.tensor(list(images.values())),
        len(FACES),
    )


def _render(face: str, size: int) -> list[bytes]:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: glyphs are rendered from the DejaVu fonts that come with matplotlib, but "
            "this one is missing; install matplotlib from PyPI or conda-forge, which include them"
        )
    letters = filter(_is_letter, map(chr, sorted(FT2Font(str(path)).get_charmap())))
    font = ImageFont.truetype(path, round(size * EM), layout_engine=ImageFont.Layout.BASIC)
    centred = (_centre(_ink(font, letter), size) for letter in letters)
    return [image.tobytes() for image in centred if image is not None]


def _is_letter(character: str) -> bool:
    return unicodedata.category(character).startswith("L")


def _ink(font: ImageFont.FreeTypeFont, letter: str) -> NDArray[np.uint8]:
    """The letter's grey values, shape (h, w), cropped to what is not black; possibly 0 x 0."""
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
