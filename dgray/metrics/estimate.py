"""Estimates with standard errors, and the jackknife over groups of generated samples.

The delete-a-group jackknife (Shao and Wu 1989, Ann. Statist. 17(3)): group g holds the samples
g, g + G, g + 2 G, ... The metrics of images take their errors from it, for a given reference,
since models are compared with the same reference and share its sampling error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor

GROUPS = 10


@dataclass(frozen=True)
class Estimate:
    """Estimated number with its standard error.

    Attributes:
        value: the estimate, such as a mean over independent samples.
        se: its standard error; nan if there is none, as with fewer than two samples.
        parts: contributions of groups of samples to the error, the root of the sum of their
            squares, if they are known. Two estimates from the same samples are compared in pairs
            by them: the error of the difference is that of the differences of the parts.
    """

    value: float
    se: float
    parts: tuple[float, ...] = field(default=(), compare=False, repr=False)

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate of a positive multiple of the number."""
        parts = tuple(factor * part for part in self.parts)
        return Estimate(factor * self.value, factor * self.se, parts)

    def with_error(self, se: float, parts: tuple[float, ...] = ()) -> Estimate:
        """Return the estimate with an additional, independent standard error."""
        return Estimate(self.value, math.hypot(self.se, se), self.parts and self.parts + parts)

    def with_parts(self, samples: Tensor) -> Estimate:
        """Return the mean of samples, shape (N,), with the parts of its error by group."""
        count, group = len(samples), group_of(len(samples), samples.device)
        if count < 2 * GROUPS:
            return self
        sums = torch.zeros(GROUPS, dtype=torch.float64, device=samples.device)
        sums.index_add_(0, group, samples.double())
        left_out = (sums.sum() - sums) / (count - torch.bincount(group, minlength=GROUPS))
        return replace(self, parts=jackknife_parts(left_out))

    @staticmethod
    def of(samples: Tensor) -> Estimate:
        """Return the mean of independent samples, shape (N,), computed in float64."""
        samples = samples.double()
        count = len(samples)
        spread = float(samples.std()) / math.sqrt(count) if count > 1 else math.nan
        return Estimate(float(samples.mean()), spread)


class SampleMetric(Protocol):
    """Metric of generated samples or of their features, as the catalogue and users provide it."""

    def __call__(
        self, generated: Float[Tensor, "m d"], reference: Float[Tensor, "n d"], /
    ) -> Estimate:
        """Return the score of generated samples compared with samples of the data."""
        ...


def between(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates of one number, with the error of their spread.

    A single estimate is returned unchanged.
    """
    if len(estimates) == 1:
        return estimates[0]
    values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
    left_out = (values.sum() - values) / (len(values) - 1)
    return replace(Estimate.of(values), parts=jackknife_parts(left_out))


def group_of(count: int, device: torch.device | None = None) -> Int64[Tensor, "count"]:
    """Return the group of each of ``count`` samples."""
    return torch.arange(count, device=device) % GROUPS


def group_estimate(value: float, left_out: list[float]) -> Estimate:
    """Return the value of all samples, with the jackknife error of the values without each group.

    A bias of order 1/n is nearly the same in all values: it does not enter the error, nor is it
    removed from the value.
    """
    values = torch.tensor(left_out, dtype=torch.float64)
    if len(values) < 2 or not bool(torch.isfinite(values).all()):
        return Estimate(value, math.nan)
    return Estimate(value, float(jackknife_error(values)), jackknife_parts(values))


def jackknife_error(left_out: Float[Tensor, "G *numbers"]) -> Float[Tensor, "*numbers"]:
    """Return the standard error of numbers from their values without each of G groups."""
    error: Tensor = ((len(left_out) - 1) * left_out.var(0, correction=0)).sqrt()
    return error


def jackknife_parts(left_out: Float[Tensor, "G"]) -> tuple[float, ...]:
    """Return the contribution of each group to ``jackknife_error``; () if some are not finite."""
    if not bool(torch.isfinite(left_out).all()):
        return ()
    scale = math.sqrt((len(left_out) - 1) / len(left_out))
    return tuple((scale * (left_out - left_out.mean())).tolist())
