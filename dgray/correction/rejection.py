r"""Rejection: finished samples of the base are accepted by the value of the logit.

A sample x of any sampler of the base is accepted with probability

    a(x) = min(1, exp(w d(x; sigma_min)) / M),

else another one is drawn (Azadi et al. 2019, arXiv 1810.06758). The accepted distribution is
exactly q a / E_q[a], where q is the distribution of the base's samples: with the exact log-ratio,
w = 1 and M >= sup p / q it is that of the data. Only values of the logit enter, no gradient.

DiffRS (Na et al. 2024, arXiv 2405.17880) accepts or rejects after every step with the logit at its
noise level. dgray rejects finished samples only: the accepted distribution is then known, and
every measure of the KL divergence follows from that of the base (``dgray.metrics.tilt``). M is an
option: a ratio above it counts as M. About M proposals are drawn for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import override

from dgray.correction.correction import SamplerCorrection
from dgray.correction.selection import SelectionRule
from dgray.discriminator.discriminator import Discriminator

MAX_ATTEMPTS = 10  # times M: e^-10 of the samples have no accepted proposal if E_q[a] = 1 / M


@dataclass(frozen=True)
class RejectionRule(SelectionRule):
    """Rule that draws samples of the base until one is accepted.

    Attributes:
        weight: w; at 0 the first proposal is accepted.
        max_ratio: M, >= 1.
    """

    weight: float
    max_ratio: float

    @property
    @override
    def proposals(self) -> Sequence[int]:
        return range(math.ceil(MAX_ATTEMPTS * self.max_ratio))

    @override
    def keep(
        self,
        kept: Float[Tensor, "N"] | None,
        proposed: Float[Tensor, "N"],
        uniform: Float[Tensor, "N"],
    ) -> tuple[Bool[Tensor, "N"], Bool[Tensor, "N"]]:
        """Keep the newest proposal, until one is accepted."""
        del kept
        return torch.ones_like(proposed, dtype=torch.bool), uniform.log() < self._log_accept(
            proposed
        )

    @override
    def log_tilt(
        self, logit: Float[Tensor, "N"], of_base: Float[Tensor, "M"]
    ) -> Float[Tensor, "N"]:
        """Return log a; exact up to the share of samples without an accepted proposal."""
        del of_base
        return self._log_accept(logit)

    @override
    def expected_proposals(self, of_base: Float[Tensor, "M"]) -> float:
        """Return the mean of a geometric distribution that ends at the last proposal."""
        accepted = float(self._log_accept(of_base).exp().mean())
        return math.fsum((1 - accepted) ** number for number in self.proposals)

    def _log_accept(self, logit: Tensor) -> Tensor:
        if self.weight == 0:
            return torch.zeros_like(logit)
        return (self.weight * logit - math.log(self.max_ratio)).clamp(max=0.0)


@dataclass(frozen=True)
class Rejection(SamplerCorrection):
    """Rejection by the logit of a discriminator.

    Attributes:
        discriminator: discriminator of one replicate, or a control.
        max_ratio: M, >= 1.
    """

    discriminator: Discriminator
    max_ratio: float

    @override
    def rule(self, weight: float) -> RejectionRule:
        return RejectionRule(weight, self.max_ratio)
