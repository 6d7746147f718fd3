"""A cloud of samples as a small PNG, by counting points: fast enough for every checkpoint.

Knows numpy and Pillow. Darker means more points; grey behind: the reference cloud in the same
frame.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIZE = 320  # pixels
_CELLS = 160  # of the counting grid; a cell is 2 x 2 pixels
_BARS = 80  # of a histogram when d = 1


@dataclass(frozen=True)
class Frame:
    """The part of the plane that is drawn; a square, so that circles stay round."""

    low: np.ndarray  # (2,)
    side: float


def frame_of(points: np.ndarray) -> Frame:
    """Room for these points and a margin; outliers (1 in 500) may fall outside."""
    flat = points[:, :2] if points.shape[1] > 1 else np.repeat(points, 2, axis=1)
    low, high = np.quantile(flat, [0.002, 0.998], axis=0)
    side = 1.3 * max(float((high - low).max()), 1e-9)
    return Frame((low + high) / 2 - side / 2, side)


def cloud_png(
    points: np.ndarray, frame: Frame, colour: tuple[float, float, float], behind: np.ndarray | None
) -> bytes:
    """PNG of ``points`` (n, d) in ``colour``; the first two coordinates, a histogram if d = 1."""
    picture = np.ones((_CELLS, _CELLS, 3))
    layers = [(behind, (0.78, 0.78, 0.78)), (points, colour)]
    for cloud, tint in layers:
        if cloud is not None and len(cloud):
            cover = _bars(cloud, frame) if cloud.shape[1] == 1 else _counts(cloud, frame)
            picture += cover[..., None] * (np.asarray(tint) - picture)
    cells = (255 * picture).round().astype(np.uint8)
    pixels = cells.repeat(SIZE // _CELLS, axis=0).repeat(SIZE // _CELLS, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _counts(points: np.ndarray, frame: Frame) -> np.ndarray:
    """Opacity of each cell: a point covers 60 %, a second one 60 % of the rest."""
    edges = [np.linspace(low, low + frame.side, _CELLS + 1) for low in frame.low]
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=edges)[0]
    return np.asarray(1 - 0.4 ** counts.T[::-1])


def _bars(points: np.ndarray, frame: Frame) -> np.ndarray:
    edges = np.linspace(frame.low[0], frame.low[0] + frame.side, _BARS + 1)
    density = np.histogram(points[:, 0], bins=edges)[0] / len(points) * _BARS
    heights = np.repeat(density, _CELLS // _BARS) / 8.0  # eight times the uniform density: the top
    rows = (np.arange(_CELLS)[::-1] + 0.5) / _CELLS
    return 0.75 * (rows[:, None] < heights[None, :])
