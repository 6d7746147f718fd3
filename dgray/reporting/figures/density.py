"""Kernel density estimates, and pictures of points, on a grid."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgba

_OPACITY = 0.45  # of one disk


def kernel_density(
    points: np.ndarray, low: np.ndarray, high: np.ndarray, cells: int
) -> np.ndarray:
    """Return a Gaussian kernel density of a third of Scott's width, which keeps modes apart.

    The points are counted in cells, and the counts are convolved with the kernel by the fast
    Fourier transform (Silverman 1982, Appl. Stat. 31(1), AS 176).

    Args:
        points: shape (n, 2).
        low: lower edges of the grid, shape (2,).
        high: upper edges, shape (2,).
        cells: number of cells per axis.

    Returns:
        Densities, shape (cells, cells), rows along the second coordinate; zeros if the points are
        too few, or all on one line.
    """
    size, count = high - low, 2 * cells  # half a grid on each side: the transform is periodic
    edges = np.linspace(low - size / 2, high + size / 2, count + 1)
    step = size / cells
    if len(points) < 3:
        return np.zeros((cells, cells))
    covariance = np.cov(points.T) * (len(points) ** (-1 / 6) / 3) ** 2
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.zeros((cells, cells))
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=[edges[:, 1], edges[:, 0]])
    y = 2 * np.pi * np.fft.fftfreq(count, step[1])[:, None]
    x = 2 * np.pi * np.fft.rfftfreq(count, step[0])
    exponent = covariance[0, 0] * x**2 + 2 * covariance[0, 1] * x * y + covariance[1, 1] * y**2
    smooth = np.fft.irfft2(np.fft.rfft2(counts) * np.exp(-exponent / 2), counts.shape)
    inside = slice(cells // 2, cells // 2 + cells)
    density = smooth[inside, inside] / (len(points) * np.prod(step))
    return np.asarray(np.maximum(density, 0))


def scatter_image(
    points: np.ndarray, low: np.ndarray, high: np.ndarray, cells: int, colour: str
) -> np.ndarray:
    """Return translucent disks of 5 cells at the points, RGBA of shape (cells, cells, 4).

    A scatter plot with ``rasterized=True`` looks the same, but matplotlib reserves a picture of
    the whole figure for each panel, together more than a gigabyte for 40 panels.

    Args:
        points: shape (n, 2).
        low: lower edges of the picture, shape (2,).
        high: upper edges, shape (2,).
        cells: number of cells per axis.
        colour: colour of the disks.
    """
    edges = np.linspace(low, high, cells + 1)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=[edges[:, 1], edges[:, 0]])
    y, x = np.mgrid[-2:3, -2:3]
    padded = np.pad(counts, 2)
    covering = sum(
        padded[2 - i : 2 - i + cells, 2 - j : 2 - j + cells]
        for i, j in zip(y[x**2 + y**2 <= 5], x[x**2 + y**2 <= 5], strict=True)
    )
    image = np.empty((cells, cells, 4))
    image[...] = to_rgba(colour)
    image[..., 3] = 1 - (1 - _OPACITY) ** np.asarray(covering)
    return image
