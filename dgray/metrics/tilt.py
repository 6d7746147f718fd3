r"""KL of a law that is tilted by a function of the logit, relative to that of the base.

For q' = q t / E_q[t], with t a function of the logit,

    KL(p || q') - KL(p || q) = -E_p[log t] + log E_q[t]:

minus the Donsker-Varadhan bound of KL(p || q) by log t (1983, Comm. Pure Appl. Math. 36(2)). It
needs no density, and it holds for the law of finished samples as for that of whole paths, since a
path is kept or not by its end alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from dgray.metrics.estimate import GROUPS, Estimate, group_of, jackknife_error, jackknife_parts

LogTilt = Callable[[Tensor, Tensor], Tensor]
"""(logits (N,), logits of samples of the base (M,)) -> log t (N,), up to a constant."""


def tilted_change(
    log_tilt: LogTilt, real: Float[Tensor, "N"], generated: Float[Tensor, "M"]
) -> Estimate:
    """Return KL(p || q') - KL(p || q) in nats.

    The error has two independent parts: over the samples of the data, and over groups of samples
    of the base (delete-a-group jackknife).

    Args:
        log_tilt: the tilt; it may depend on the law of the logit under the base.
        real: logits of samples of the data.
        generated: logits of samples of the base.
    """
    losses = losses_of_tilt(log_tilt, real, generated)
    estimate = Estimate.of(losses).with_parts(losses)
    group = group_of(len(generated), generated.device)
    if len(generated) < 2 * GROUPS:
        return estimate
    left_out = torch.stack(
        [losses_of_tilt(log_tilt, real, generated[group != g]).mean() for g in range(GROUPS)]
    )
    error, parts = float(jackknife_error(left_out)), jackknife_parts(left_out)
    return replace(estimate.with_error(error), parts=estimate.parts and estimate.parts + parts)


def losses_of_tilt(
    log_tilt: LogTilt, real: Float[Tensor, "N"], generated: Float[Tensor, "M"]
) -> Float[Tensor, "N"]:
    """Return log q - log q' at each sample of the data, float64, shape (N,)."""
    real, generated = real.double(), generated.double()
    mean = log_tilt(generated, generated).logsumexp(0) - torch.log(
        torch.tensor(len(generated), dtype=torch.float64)
    )
    return mean - log_tilt(real, generated)
