"""Images side by side as one array, and as a PNG. Knows numpy and Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

COLUMNS = 8
_GAP = 1  # pixels between images
_SIDE = 320  # of a PNG, about: small images are enlarged by a whole factor


def image_grid(images: np.ndarray, shape: Sequence[int], count: int = COLUMNS**2) -> np.ndarray:
    """The first ``count`` images, bytes of shape (n, d), as one picture uint8 (h, w, 3)."""
    channels, height, width = shape
    shown = np.asarray(images[:count], dtype=float).clip(0, 255).astype(np.uint8)
    pixels = shown.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    pixels = np.broadcast_to(pixels[..., :3], (*pixels.shape[:3], 3))
    rows = -(-len(pixels) // COLUMNS)
    columns = min(COLUMNS, len(pixels))
    picture = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 128)
    for i, image in enumerate(pixels):
        top, left = i // COLUMNS * (height + _GAP), i % COLUMNS * (width + _GAP)
        picture[top : top + height, left : left + width] = image
    return picture.astype(np.uint8)


def grid_png(images: np.ndarray, shape: Sequence[int]) -> tuple[bytes, tuple[int, int]]:
    """The same as PNG, and its (height, width)."""
    picture = image_grid(images, shape)
    factor = max(1, _SIDE // max(picture.shape[:2]))
    picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue(), (picture.shape[0], picture.shape[1])
