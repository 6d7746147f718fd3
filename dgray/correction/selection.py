"""Selection among samples of the base by the value of a logit.

A rule gets one proposal after another, each an independent sample of the base, and keeps one. The
distribution of the kept samples has a density relative to the base that depends on the logit: the
tilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class SelectionRule(Protocol):
    """Rule of a selection at one weight. Logits are those of finished samples at sigma_min."""

    @property
    def proposals(self) -> Sequence[int]:
        """Numbers of the proposals in their order; number 0 is the sample of the base itself."""
        ...

    def keep(
        self,
        kept: Float[Tensor, "N"] | None,
        proposed: Float[Tensor, "N"],
        uniform: Float[Tensor, "N"],
    ) -> tuple[Bool[Tensor, "N"], Bool[Tensor, "N"]]:
        """Return where the proposal is kept, and where no further one is needed.

        Args:
            kept: logits of the samples kept so far; None before the first proposal.
            proposed: logits of the proposals.
            uniform: random numbers in [0, 1).
        """
        ...

    def log_tilt(
        self, logit: Float[Tensor, "N"], of_base: Float[Tensor, "M"]
    ) -> Float[Tensor, "N"]:
        """Return the log-density of the selected samples relative to the base, up to a constant.

        Args:
            logit: logits at N points.
            of_base: logits of samples of the base.
        """
        ...

    def expected_proposals(self, of_base: Float[Tensor, "M"]) -> float:
        """Return the expected number of proposals of a sample.

        Args:
            of_base: logits of samples of the base.
        """
        ...


@dataclass(frozen=True)
class Selected:
    """Selection among proposals of N samples.

    Attributes:
        samples: kept samples, shape (N, d).
        num_proposals: proposals that were drawn for each, int64, shape (N,).
    """

    samples: Tensor
    num_proposals: Int64[Tensor, "N"]


class Propose(Protocol):
    """Source of proposals."""

    def __call__(self, number: int, rows: Int64[Tensor, "n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return samples (n, d), their logits (n,) and uniform random numbers (n,).

        Args:
            number: number of the proposal.
            rows: the samples that need one.
        """
        ...


def select(rule: SelectionRule, propose: Propose, count: int) -> Selected:
    """Apply a rule to proposals until every sample needs no further one, or there are none."""
    rows = torch.arange(count)
    samples, logits = None, torch.zeros(count, dtype=torch.float64)
    num_proposals = torch.zeros(count, dtype=torch.int64)
    for number in rule.proposals:
        proposed, logit, uniform = propose(number, rows)
        if samples is None:
            samples, logits = torch.empty_like(proposed), logits.to(proposed.device)
            rows, num_proposals = rows.to(proposed.device), num_proposals.to(proposed.device)
            taken, done = rule.keep(None, logit, uniform)
        else:
            taken, done = rule.keep(logits[rows], logit, uniform)
        samples[rows[taken]], logits[rows[taken]] = proposed[taken], logit[taken].double()
        num_proposals[rows] += 1
        rows = rows[~done]
        if not len(rows):
            break
    assert samples is not None  # every rule has a proposal
    return Selected(samples, num_proposals)
