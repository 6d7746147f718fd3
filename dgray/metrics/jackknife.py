"""Standard errors over generated samples, by leaving out every tenth of them.

The delete-a-group jackknife (Shao and Wu 1989, Ann. Statist. 17(3)): group g holds the samples
g, g + G, g + 2 G, ... Every metric of images takes its error so, given the reference: models are
compared with the same reference, whose own sampling error is common to them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgray.metrics.estimate import Estimate

GROUPS = 10


def group_of(count: int, device: torch.device | None = None) -> Tensor:
    """The group of each of ``count`` samples, int64, shape (count,)."""
    return torch.arange(count, device=device) % GROUPS


def group_estimate(value: float, left_out: list[float]) -> Estimate:
    """The value of all samples, with the error that the values without each group give.

    Leaving out changes a bias of order 1/n in all values alike, so it does not enter the error;
    nor is it removed from the value.
    """
    values = torch.tensor(left_out, dtype=torch.float64)
    if len(values) < 2 or not bool(torch.isfinite(values).all()):
        return Estimate(value, math.nan)
    spread = (values - values.mean()).square().mean()
    return Estimate(value, math.sqrt((len(values) - 1) * float(spread)))
