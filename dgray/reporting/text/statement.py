"""Statements of a finding, estimates with standard errors, and the threshold for differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Tone = Literal["harm", "gain", "neutral", "caution"]
THRESHOLD = 3.0  # standard errors that a difference must exceed to count
BEYOND = f"by more than {THRESHOLD:g} standard errors"
COUNTED = f"Only changes of more than {THRESHOLD:g} standard errors are counted."
_SMALL, _TINY = 5e-4, 5e-7  # errors below are written with one digit; in scientific notation


@dataclass(frozen=True)
class Statement:
    """One statement; ``tone`` determines its colour on the page."""

    topic: str
    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True)
class Estimate:
    """Number with its standard error, which is NaN if it is unknown."""

    value: float
    error: float

    def __str__(self) -> str:
        """Format to the second digit of the error, to the first of a small one: 2.31 ± 0.12."""
        return minus(self._text())

    def _text(self) -> str:
        if not np.isfinite(self.value):
            return "diverged" if self.value > 0 else "not a number"
        if not np.isfinite(self.error):
            return f"{self.value:.3g}"
        if self.error < _TINY:
            return f"{self.value:.3g} ± {self.error:.1g}"
        first = -int(np.floor(np.log10(self.error)))  # decimal place of the error's first digit
        digits = max(first + (self.error >= _SMALL), 0)
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"

    @property
    def in_errors(self) -> float:
        """The value in units of its standard error."""
        return self.value / self.error if self.error > 0 else float("nan")


def estimate(model: pd.Series, column: str) -> Estimate | None:
    """Return the value of a column with its standard error, or None if it is missing."""
    if column not in model or pd.isna(model[column]):
        return None
    return Estimate(float(model[column]), float(model.get(f"{column}_se", np.nan)))


def change(models: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Select models with a reliable change of a metric against the base.

    Returns:
        These models with the columns ``change``, ``change_se`` and ``in_errors``, the change in
        units of its standard error.
    """
    value = models[f"{metric}_change"].astype(float)
    error = models[f"{metric}_change_se"].astype(float)
    changes = models.assign(change=value, change_se=error, in_errors=_ratio(value, error))
    return changes[value.notna() & ~is_unreliable(models, metric)]


def is_unreliable(models: pd.DataFrame, metric: str) -> pd.Series:
    """Return a mask of the models whose ``kl`` includes integrations that missed the tolerance."""
    return (models["kl_unconverged"].astype(float) > 0) & (metric == "kl")


def _ratio(value: pd.Series, error: pd.Series) -> pd.Series:
    """Return value / error; infinite for a nonzero value whose error is zero or unknown."""
    certain = np.sign(value) * np.inf
    return (value / error.where(error > 0)).where(error > 0, certain.where(value != 0, 0.0))


def errors_text(count: float) -> str:
    """Format a difference in standard errors: ``+3.4 standard errors``."""
    if not np.isfinite(count):
        return "with no measurable error"
    return minus(f"{count:+z.1f} standard errors")


def minus(text: str) -> str:
    """Replace hyphens by minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")


def listed(parts: Sequence[str]) -> str:
    """Join parts: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(number: int, thing: str) -> str:
    """Return a number with a noun: ``1 model``, ``3 models``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
