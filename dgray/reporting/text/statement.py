"""Statements of a finding, and how lists, counts and p-values are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dgray.reporting.comparisons import Comparison

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


def p_text(comparison: Comparison) -> str:
    """Return the adjusted p-value: ``adjusted p = 0.034``, or ``not tested``."""
    p = comparison.adjusted_p
    if not comparison.is_tested:
        return "not tested"
    return "adjusted p < 0.0001" if p < 1e-4 else f"adjusted p = {p:.2g}"
