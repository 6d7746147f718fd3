"""Scores of a discriminator as a classifier of real and generated samples."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from dgray.metrics.estimate import Estimate


def accuracy(
    real_logits: Float[Tensor, "N *levels"], generated_logits: Float[Tensor, "M *levels"]
) -> Estimate:
    """Return the balanced accuracy at the threshold 0, in [0, 1]; a logit of 0 counts 1/2.

    The standard error is over the N real and M generated samples.
    """
    called_real = [
        Estimate.of(
            torch.heaviside(logits.double(), logits.new_tensor(0.5).double()).flatten(1).mean(1)
        )
        for logits in (real_logits, generated_logits)
    ]
    share = (called_real[0].value + 1 - called_real[1].value) / 2
    return Estimate(share, math.hypot(called_real[0].se, called_real[1].se) / 2)


def calibration_error(
    real_logits: Float[Tensor, "*real"],
    generated_logits: Float[Tensor, "*generated"],
    num_bins: int = 15,
) -> float:
    """Return the expected calibration error of P(real) (Guo et al. 2017, arXiv 1706.04599).

    The predicted probability, which assumes equally many real and generated samples, has bins of
    equal width.
    """
    if real_logits.numel() != generated_logits.numel():
        raise ValueError(
            "calibration_error needs as many generated as real logits, but got "
            f"{generated_logits.numel()} and {real_logits.numel()}"
        )
    logits = torch.cat([real_logits.flatten(), generated_logits.flatten()]).double()
    is_real = torch.zeros_like(logits)
    is_real[: real_logits.numel()] = 1
    probability = torch.sigmoid(logits)
    bins = (probability * num_bins).long().clamp(max=num_bins - 1)
    # On the CPU, where the order of the sum is fixed.
    gaps = torch.zeros(num_bins, dtype=torch.float64)
    gaps.index_add_(0, bins.cpu(), (is_real - probability).cpu())
    return float(gaps.abs().sum()) / len(logits)
