"""A number that was estimated from independent samples, and its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean over independent samples.

    Attributes:
        value: the mean.
        se: its standard error; nan with fewer than two samples.
    """

    value: float
    se: float

    def scaled(self, factor: float) -> Estimate:
        """The estimate of a positive multiple."""
        return Estimate(factor * self.value, factor * self.se)

    @staticmethod
    def of(samples: Tensor) -> Estimate:
        """The mean of independent samples, shape (N,), in float64."""
        samples = samples.double()
        count = len(samples)
        spread = float(samples.std()) / math.sqrt(count) if count > 1 else math.nan
        return Estimate(float(samples.mean()), spread)
