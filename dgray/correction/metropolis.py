r"""Metropolis: a chain over samples of the base, moved by the value of the logit.

The chain starts at a sample of the base. Each of J moves proposes another, independent one, x',
and accepts it with probability min(1, exp(w d(x'; sigma_min) - w d(x; sigma_min))): the
independence sampler (Tierney 1994, Ann. Statist. 22(4)) with target q exp(w d) / Z, where q is the
distribution of the base's samples. The target is invariant, for any logit and any sampler of the
base; with the exact log-ratio and w = 1 it is the distribution of the data. Only values of the
logit enter, no gradient and no bound. The use of a discriminator's logit in Metropolis moves is
that of AC-Sampler (Park et al. 2026, ICLR), which moves at an intermediate noise level by Langevin
proposals.

After J moves the density of the chain relative to q is a function phi_J of the weight
r = exp(w d) alone (Smith and Tierney 1996, technical report, University of Minnesota):

    phi_0 = 1,
    phi_{j+1}(r) = E_q[phi_j(R) min(1, r / R)] + phi_j(r) (1 - E_q[min(1, R / r)]).

So the KL divergence follows from that of the base (``dgray.metrics.tilt``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import override

from dgray.correction.correction import SamplerCorrection
from dgray.correction.selection import SelectionRule
from dgray.discriminator.discriminator import Discriminator

LOWEST = 300.0  # nats below the highest log-weight, at which weights count as 0


@dataclass(frozen=True)
class MetropolisRule(SelectionRule):
    """Rule that moves a chain from one sample of the base to another.

    Attributes:
        weight: w; at 0 every move is accepted, and the chain ends in the base's own sample.
        moves: J, >= 1.
    """

    weight: float
    moves: int

    @property
    @override
    def proposals(self) -> Sequence[int]:
        return range(self.moves, -1, -1)

    @override
    def keep(
        self,
        kept: Float[Tensor, "N"] | None,
        proposed: Float[Tensor, "N"],
        uniform: Float[Tensor, "N"],
    ) -> tuple[Bool[Tensor, "N"], Bool[Tensor, "N"]]:
        """Move with the probability of Metropolis, and stop after the last proposal."""
        done = torch.zeros_like(proposed, dtype=torch.bool)
        if kept is None:
            return ~done, done
        return uniform.log() < self.weight * (proposed - kept), done

    @override
    def log_tilt(
        self, logit: Float[Tensor, "N"], of_base: Float[Tensor, "M"]
    ) -> Float[Tensor, "N"]:
        """Return log g_K, with means over ``of_base`` in place of expectations."""
        return log_chain_density(self.weight * logit, self.weight * of_base, self.moves)

    @override
    def expected_proposals(self, of_base: Float[Tensor, "M"]) -> float:
        del of_base
        return float(len(self.proposals))


@dataclass(frozen=True)
class Metropolis(SamplerCorrection):
    """Metropolis moves by the logit of a discriminator.

    Attributes:
        discriminator: discriminator of one replicate, or a control.
        moves: J, >= 1.
    """

    discriminator: Discriminator
    moves: int

    @override
    def rule(self, weight: float) -> MetropolisRule:
        return MetropolisRule(weight, self.moves)


def log_chain_density(
    log_weight: Float[Tensor, "N"], of_base: Float[Tensor, "M"], moves: int
) -> Float[Tensor, "N"]:
    """Return log phi_J, the log-density of the chain after J moves relative to the base.

    Expectations under the base are means over its samples.

    Args:
        log_weight: w d at N points.
        of_base: w d at samples of the base.
        moves: J, >= 0.
    """
    highest = of_base.double().max()
    law = (of_base.double() - highest).clamp(min=-LOWEST).sort().values
    points = (log_weight.double() - highest).clamp(min=-LOWEST, max=LOWEST)
    weights, count = torch.cat([points, law]), len(law)
    below = torch.searchsorted(law, weights, right=True)  # samples of the base of no higher weight
    moving = (_sums(law.exp())[below] / weights.exp() + count - below) / count
    density = torch.ones_like(weights)
    for _ in range(moves):
        of_law = density[len(points) :]
        from_lower, scaled = _sums(of_law)[below], _sums(of_law / law.exp())
        arrivals = (from_lower + weights.exp() * (scaled[-1] - scaled[below])) / count
        density = arrivals + density * (1 - moving)
    return density[: len(points)].log()


def _sums(values: Tensor) -> Tensor:
    """Return the sums of the first 0, 1, ... of the values."""
    return torch.cat([values.new_zeros(1), values.cumsum(0)])
