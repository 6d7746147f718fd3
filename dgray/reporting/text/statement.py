"""A sentence of the finding, and when a difference counts: beyond three standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Tone = Literal["harm", "gain", "neutral", "caution"]
THRESHOLD = 3.0  # standard errors: a difference below counts as none
NAMES = {
    "cross_entropy": "Cross-entropy",
    "kl": "The KL objective",
    "mixed": "The mixed objective",
}


@dataclass(frozen=True)
class Statement:
    """One sentence; ``tone`` colours it."""

    topic: str
    text: str
    tone: Tone = "neutral"


def change(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Change against the base in nats and in standard errors, where it is known and sound."""
    value = cells[f"{metric}_change"].astype(float)
    error = cells[f"{metric}_change_se"].astype(float)
    told = cells.assign(change=value, change_se=error, in_errors=_ratio(value, error))
    return told[value.notna() & ~is_suspect(cells, metric)]


def is_suspect(cells: pd.DataFrame, metric: str) -> pd.Series:
    """Cells whose ``kl`` rests on integrations that missed their tolerance."""
    return (cells["kl_unconverged"].astype(float) > 0) & (metric == "kl")


def _ratio(value: pd.Series, error: pd.Series) -> pd.Series:
    """The quotient; without an error any difference is beyond doubt, and none is none."""
    certain = np.sign(value) * np.inf
    return (value / error.where(error > 0)).where(error > 0, certain.where(value != 0, 0.0))


def errors_in_words(count: float) -> str:
    """Signed: +3.4 standard errors."""
    if not np.isfinite(count):
        return "with no measurable error"
    return f"{count:+.1f} standard errors".replace("-", "\N{MINUS SIGN}")


def listed(parts: list[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(number: int, thing: str) -> str:
    """``1 cell``, ``3 cells``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
