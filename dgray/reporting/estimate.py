"""Estimates with standard errors, and how numbers are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

_LARGE = 1e6  # from here in scientific notation
_SMALL, _TINY = 5e-4, 5e-7  # errors below are written with one digit; in scientific notation


@dataclass(frozen=True)
class Estimate:
    """Number with its standard error, which is NaN if it is unknown."""

    value: float
    error: float

    def __str__(self) -> str:
        """Format to the second digit of the error, to the first of a small one: 2.31 ± 0.12."""
        return minus(self._text())

    @property
    def signed(self) -> str:
        """The text with a plus sign if its value is positive."""
        text = str(self)
        has_sign = 0 < self.value < np.inf and text.partition(" ")[0].strip("0.")
        return f"+{text}" if has_sign else text

    def _text(self) -> str:
        if not np.isfinite(self.value):
            return "diverged" if self.value > 0 else "not a number"
        if not np.isfinite(self.error):
            return f"{self.value:z.3g}"
        if self.error < _TINY:
            return f"{self.value:z.3g} ± {self.error:.1g}"
        if max(abs(self.value), self.error) >= _LARGE:
            return f"{self.value:.3g} ± {self.error:.2g}"
        first = -int(np.floor(np.log10(self.error)))  # decimal place of the error's first digit
        digits = max(first + (self.error >= _SMALL), 0)
        return f"{self.value:z.{digits}f} ± {self.error:.{digits}f}"  # z: no negative zero


def estimate(model: pd.Series, column: str) -> Estimate | None:
    """Return the value of a column with its standard error, or None if it is missing."""
    if column not in model or pd.isna(model[column]):
        return None
    return Estimate(float(model[column]), float(model.get(f"{column}_se", np.nan)))


def rounded(value: float) -> str:
    """Format a number with its sign and three significant digits: ``+4570``."""
    value += 0.0  # no negative zero
    if abs(value) >= _LARGE:
        return minus(f"{value:+.3g}")
    text = np.format_float_positional(value, precision=3, fractional=False, trim="-", sign=True)
    return minus(text if abs(value) >= _SMALL or value == 0 else f"{value:+.3g}")


def minus(text: str) -> str:
    """Replace hyphens by minus signs."""
    return text.replace("-", "\N{MINUS SIGN}")
