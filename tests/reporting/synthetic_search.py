"""Synthetic searches: points with chosen values, without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dgray.reporting.searches import Range, SearchPoints

WIDTH, RATE = "discriminator.width", "fit.learning_rate"
RANGES = {
    WIDTH: Range("int", 4, 256, is_log=True),
    RATE: Range("log_uniform", 1e-5, 1e-1, is_log=True),
}
KL = {"path_kl_change": "minimize"}
KL_AND_TIME = {"path_kl_change": "minimize", "fit_seconds": "minimize"}


def point(
    number: int,
    *values: float,
    metrics: Mapping[str, str] = KL,
    state: str = "COMPLETE",
    held_out: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return a point with these validation values; ``held_out``: of the first metric, ± 0.01."""
    line = {
        "number": number,
        "trial": f"kl-{number:08x}",
        "state": state,
        "seconds": 10.0 * number,
        "reason": None,
        "of": None,
        WIDTH: 16,
        RATE: 1e-3,
        "epoch": 20 if state == "COMPLETE" else None,
        "is_calibrated": False,
        "guidance_weight": 1.0,
        "excess": 0.0,
        "last": values[0] if values else None,
    }
    told = values if state == "COMPLETE" else [None] * len(metrics)
    for name, value in zip(metrics, told, strict=True):
        line |= {f"validation:{name}": value, f"validation:{name}_se": None}
        line |= {name: value, f"{name}_se": None}
    first = next(iter(metrics))
    if state == "COMPLETE":
        line |= {f"validation:{first}_se": 0.005, f"{first}_se": 0.01}
        line[first] = values[0] + 0.02 if held_out is None else held_out
    return line | fields


def search_of(
    points: Sequence[Mapping[str, Any]],
    *,
    label: str = "kl",
    metrics: Mapping[str, str] = KL,
    ranges: Mapping[str, Range] = RANGES,
) -> SearchPoints:
    """One search."""
    return SearchPoints(label, metrics, ranges, pd.DataFrame(points))
