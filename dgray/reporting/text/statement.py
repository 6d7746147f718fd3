"""Statements of a finding, and how lists, counts and p-values are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dgray.reporting.comparisons import Comparison
from dgray.reporting.estimate import Estimate, estimate
from dgray.reporting.presentation import distances
from dgray.reporting.selection import base_of
from dgray.reporting.table import StudyTable

Tone = Literal["harm", "gain", "neutral", "caution"]


@dataclass(frozen=True)
class Statement:
    """One statement; ``tone`` determines its colour on the page."""

    topic: str
    text: str
    tone: Tone = "neutral"


def listed(parts: Sequence[str]) -> str:
    """Join parts: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def change_text(table: StudyTable, comparison: Comparison) -> str:
    """Return the difference with its unit; of a distance, also relative to that of the base.

    The relative change is left out if the base's distance is not beyond 3 standard errors of 0.
    """
    change, unit = comparison.estimate, table.unit(comparison.metric)
    text = f"{change.signed}{f' {unit}' if unit else ''}"
    if comparison.metric not in distances() or not np.isfinite(change.value):
        return text
    base = base_of(table, comparison.model.to_frame().T)
    level = None if base is None else estimate(base, comparison.metric)
    if level is None or not level.value > 3 * np.nan_to_num(level.error):
        return text
    share = Estimate(100 * change.value / level.value, 100 * change.error / level.value)
    return f"{text}, that is {share.signed} % of the base's"


def p_text(comparison: Comparison) -> str:
    """Return the adjusted p-value: ``adjusted p = 0.034``, or ``not tested``."""
    p = comparison.adjusted_p
    if not comparison.is_tested:
        return "not tested"
    return "adjusted p < 0.0001" if p < 1e-4 else f"adjusted p = {p:.2g}"
