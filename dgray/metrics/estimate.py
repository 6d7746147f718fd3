"""A number that was estimated from independent samples, and its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
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


def between(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates of one number, its error from their spread.

    A single one is returned as it is: its own error is all there is.
    """
    if len(estimates) == 1:
        return estimates[0]
    return Estimate.of(torch.tensor([each.value for each in estimates], dtype=torch.float64))
