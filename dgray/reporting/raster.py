"""Samples as pixels, drawn with NumPy and Pillow: grids of images, and clouds of points.

A cloud is drawn by counting the points in each cell of a grid, which is fast enough for every
checkpoint of a running study.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZE = 320  # pixels of the side of a PNG (grids of images: at most, by whole factors)
COLUMNS = 8  # images per line of a grid
_GAP = 1  # pixels between images
_CELLS = 160  # cells of the counting grid per axis, 2 x 2 pixels each
_BARS = 80  # bars of a histogram, for d = 1


def image_grid(images: np.ndarray, shape: Sequence[int], count: int = COLUMNS**2) -> np.ndarray:
    """Arrange images in a grid.

    Args:
        images: bytes, shape (n, channels * height * width).
        shape: (channels, height, width) of an image.
        count: the first ``count`` images are shown.

    Returns:
        One RGB picture, uint8, shape (h, w, 3).
    """
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
    """Return the grid of ``image_grid`` as PNG, and its (height, width) in pixels.

    Small images are enlarged by a whole factor.
    """
    picture = image_grid(images, shape)
    factor = max(1, SIZE // max(picture.shape[:2]))
    return _png(picture, factor), (factor * picture.shape[0], factor * picture.shape[1])


def encoded_grid(
    images: np.ndarray, shape: Sequence[int], form: str
) -> tuple[bytes, str, tuple[int, int]]:
    """Return the grid of ``image_grid`` in its own size, its format, and (height, width)."""
    picture = image_grid(images, shape)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=form, quality=90, optimize=True)
    return buffer.getvalue(), form, (picture.shape[0], picture.shape[1])


@dataclass(frozen=True)
class Frame:
    """Part of the plane that is drawn; a square, so that circles stay round."""

    low: np.ndarray  # (2,)
    side: float


def frame_of(points: np.ndarray) -> Frame:
    """Return a frame with a margin around ``points`` (n, d); 1 in 500 may fall outside."""
    flat = points[:, :2] if points.shape[1] > 1 else np.repeat(points, 2, axis=1)
    low, high = np.quantile(flat, [0.002, 0.998], axis=0)
    side = 1.3 * max(float((high - low).max()), 1e-9)
    return Frame((low + high) / 2 - side / 2, side)


def cloud_png(
    points: np.ndarray, frame: Frame, colour: tuple[float, float, float], behind: np.ndarray | None
) -> bytes:
    """Draw points as a square PNG: darker where there are more.

    Args:
        points: shape (n, d): the first two coordinates, or a histogram for d = 1.
        frame: the part of the plane that is shown.
        colour: RGB in [0, 1].
        behind: a reference cloud, drawn in grey behind the points.
    """
    picture = np.ones((3, _CELLS, _CELLS))  # a plane a channel takes half the time
    for cloud, tint in ((behind, (0.78, 0.78, 0.78)), (points, colour)):
        if cloud is not None and len(cloud):
            cover = _bars(cloud, frame) if cloud.shape[1] == 1 else _counts(cloud, frame)
            for plane, value in zip(picture, tint, strict=True):
                plane += cover * (value - plane)
    pixels = (255 * picture).round().astype(np.uint8).transpose(1, 2, 0)
    return _png(np.ascontiguousarray(pixels), SIZE // _CELLS)


def _counts(points: np.ndarray, frame: Frame) -> np.ndarray:
    """Opacity of each cell: a point covers 60 %, a second one 60 % of the rest."""
    edges = [np.linspace(low, low + frame.side, _CELLS + 1) for low in frame.low]
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=edges)[0]
    return np.asarray(1 - 0.4 ** counts.T[::-1])


def _bars(points: np.ndarray, frame: Frame) -> np.ndarray:
    edges = np.linspace(frame.low[0], frame.low[0] + frame.side, _BARS + 1)
    density = np.histogram(points[:, 0], bins=edges)[0] / len(points) * _BARS
    heights = np.repeat(density, _CELLS // _BARS) / 8.0  # the top: 8 times the uniform density
    rows = (np.arange(_CELLS)[::-1] + 0.5) / _CELLS
    return 0.75 * (rows[:, None] < heights[None, :])


def _png(pixels: np.ndarray, factor: int) -> bytes:
    """Return a picture as PNG, enlarged by a whole factor."""
    image = Image.fromarray(pixels)
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    image.resize((factor * width, factor * height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
