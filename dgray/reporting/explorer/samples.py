"""Samples for the interactive page: points as 16-bit numbers in a frame, images as grids."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dgray.reporting.legible import printable
from dgray.reporting.raster import encoded_grid

_BUDGET = 1_800_000  # bytes of all samples; a third more as text
_MAX_POINTS, _MIN_POINTS = 600, 100
_MAX_IMAGES, _MIN_IMAGES = 64, 16
_COMPRESSION = 10  # of photographs
_PHOTOGRAPH = 48  # pixels of a side from which images are stored as JPEG
_OUTSIDE = 2**16 - 1  # of a point outside the frame
_UNGUIDED = ("data", "real", "base")


def packed_samples(table: Any, index: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the samples of data, bases and guided models, as many as the page can hold.

    Args:
        table: the study.
        index: number of each trial.

    Returns:
        None without samples; else ``clouds``, each with its source, trial, epoch, weight, sampler
        and content, and the number of clouds that are left out, those of early epochs first.
    """
    clouds = table.clouds
    if clouds.empty:
        return None
    clouds = clouds[clouds["trial"].isin(set(index))]
    bases = dict(zip(table.models["trial"], table.models["base_trial"], strict=True))
    order = clouds.assign(
        base=[bases.get(trial) or trial for trial in clouds["trial"]],
        rank=~clouds["source"].isin(_UNGUIDED),
        late=-clouds["epoch"],
    ).sort_values(["rank", "late"], kind="stable")
    packed: list[dict[str, Any]] = []
    used = 0
    frames = {base: _Frame.of(group) for base, group in order.groupby("base", sort=False)}
    for _, row in order.iterrows():
        content = _packed(row, frames[row["base"]], len(order))
        used += len(content["data"]) * 3 // 4
        if used > _BUDGET and packed:
            break
        packed.append(_identity(row, index) | content)
    return {
        "clouds": packed,
        "leftOut": len(table.clouds) - len(packed),
        "frames": {index[base]: frame.limits for base, frame in frames.items() if base in index},
    }


class _Frame:
    """The part of the plane that is shown: that of the data and the base, so that outliers of
    guided models hide nothing.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        margin = 0.12 * np.maximum(high - low, 1e-9)
        self.low, self.high = low - margin, high + margin

    @classmethod
    def of(cls, clouds: pd.DataFrame) -> _Frame:
        unguided = clouds[clouds["source"].isin(_UNGUIDED)]
        parts = [
            _points(row)[:, :2] for _, row in (unguided if len(unguided) else clouds).iterrows()
        ]
        points = np.concatenate(parts)
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            points = np.zeros((1, parts[0].shape[1]))
        return cls(*np.quantile(points, [0.002, 0.998], axis=0))

    @property
    def limits(self) -> list[list[float]]:
        return [
            [float(f"{v:.4g}") for v in pair] for pair in zip(self.low, self.high, strict=True)
        ]

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Return positions in the frame as integers; ``_OUTSIDE`` for points outside."""
        share = (points - self.low) / (self.high - self.low)
        is_inside = (np.isfinite(share) & (share >= 0) & (share <= 1)).all(axis=1, keepdims=True)
        scaled = np.round(np.where(is_inside, share, 0) * (_OUTSIDE - 1))
        return np.where(is_inside, scaled, _OUTSIDE).astype("<u2")


def _identity(row: pd.Series, index: Mapping[str, int]) -> dict[str, Any]:
    weight = row["guidance_weight"]
    return {
        "source": row["source"],
        "trial": index[row["trial"]],
        "epoch": int(row["epoch"]),
        "weight": None if pd.isna(weight) else float(weight),
        "isCalibrated": bool(row["is_calibrated"]),
        "sampler": printable(str(row["sampler"])),
    }


def _packed(row: pd.Series, frame: _Frame, num_clouds: int) -> dict[str, Any]:
    points = _points(row)
    shape = row.get("shape")
    if shape is None:
        count = int(np.clip(_BUDGET / (4 * num_clouds), _MIN_POINTS, _MAX_POINTS))
        cells = frame.cells(points[:count, :2])
        outside = int((cells[:, 0] == _OUTSIDE).sum())
        return {
            "data": base64.b64encode(cells.tobytes()).decode(),
            "dimension": points.shape[1],
            "n": len(cells),
            "outside": outside,
        }
    sizes = tuple(int(size) for size in shape)
    is_photograph = min(sizes[1:]) >= _PHOTOGRAPH
    size = int(np.prod(sizes)) / (_COMPRESSION if is_photograph else 1)
    count = int(np.clip(_BUDGET / (size * num_clouds), _MIN_IMAGES, _MAX_IMAGES)) // 8 * 8
    content, form, (height, width) = encoded_grid(
        points[:count], sizes, "JPEG" if is_photograph else "PNG"
    )
    return {
        "data": base64.b64encode(content).decode(),
        "format": form.lower(),
        "width": width,
        "height": height,
        "n": min(count, len(points)),
    }


def _points(row: pd.Series) -> np.ndarray:
    return np.array([*row["points"]], float)
