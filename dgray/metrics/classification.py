"""How good a discriminator is as a classifier: what cross-entropy rewards."""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(real_logits: Tensor, generated_logits: Tensor) -> float:
    """Balanced share of right decisions at logit 0, in [0, 1]; logits of any shape."""
    right = (real_logits > 0).double().mean() + (generated_logits < 0).double().mean()
    return float(right) / 2


def calibration_error(real_logits: Tensor, generated_logits: Tensor, num_bins: int = 15) -> float:
    """Expected calibration error of P(real), in [0, 1] (Guo et al. 2017, arXiv 1706.04599).

    Equal bins of the predicted probability; both sets must have as many logits, since the
    probability presumes equal shares.
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
    gaps = torch.zeros(num_bins, dtype=torch.float64, device=logits.device)
    gaps.index_add_(0, bins, is_real - probability)
    return float(gaps.abs().sum()) / len(logits)
