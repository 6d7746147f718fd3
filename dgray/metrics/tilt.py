r"""KL of a distribution that is tilted by a function of the logit, relative to that of the base.

For q' = q t / E_q[t], with t a function of the logit,

    KL(p || q') - KL(p || q) = -E_p[log t] + log E_q[t]:

minus the Donsker-Varadhan bound of KL(p || q) by log t (1983, Comm. Pure Appl. Math. 36(2)). It
needs no density, and it holds for the distribution of finished samples as for that of whole paths,
since a path is kept or not by its end alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dgray.metrics.estimate import GROUPS, Estimate, group_of, jackknife_error, jackknife_parts

LogTilt = Callable[[Tensor, Tensor], Tensor]
"""(logits (N,), logits of samples of the base (M,)) -> log t (N,), up to a constant."""


@dataclass(frozen=True)
class Tilt:
    """Distribution q' of a tilt of the base.

    Attributes:
        log_tilt: log t; it may depend on the distribution of the logit under the base.
        of_base: logits of samples of the base, shape (M,).
    """

    log_tilt: LogTilt
    of_base: Float[Tensor, "M"]

    def losses(self, real: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """Return log q - log q' at samples of the data from their logits, float64, shape (N,)."""
        of_base = self.of_base.double()
        mean = self.log_tilt(of_base, of_base).logsumexp(0) - math.log(len(of_base))
        return mean - self.log_tilt(real.double(), of_base)

    def with_base_error(self, estimate: Estimate, real: Float[Tensor, "N"]) -> Estimate:
        """Return a mean that contains ``losses``, with the error due to the samples of the base.

        It is that of the delete-a-group jackknife, independent of the samples of the data.
        """
        group = group_of(len(self.of_base), self.of_base.device)
        if len(group) < 2 * GROUPS:
            return estimate
        without = [Tilt(self.log_tilt, self.of_base[group != g]) for g in range(GROUPS)]
        left_out = torch.stack([tilt.losses(real).mean() for tilt in without])
        return estimate.with_error(float(jackknife_error(left_out)), jackknife_parts(left_out))

    def change(self, real: Float[Tensor, "N"]) -> Estimate:
        """Return KL(p || q') - KL(p || q) in nats, with the errors of both sets of samples."""
        losses = self.losses(real)
        return self.with_base_error(Estimate.of(losses).with_parts(losses), real)
