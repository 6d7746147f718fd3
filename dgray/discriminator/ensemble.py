"""What training asks of the replicates of a discriminator, trained together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.objective import Differentiable


class Ensemble(Discriminator, Protocol):
    """R discriminators of one kind, whose tensors carry a leading dimension R.

    As a discriminator it takes x of shape (R, N, d) and sigma of shape (R, N), or (1, N, d) and
    (1, N) for all; every member equals the member alone up to rounding.
    """

    @property
    def num_parameters(self) -> int:
        """Trained parameters of one member."""
        ...

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that is trained, always in the same order."""
        ...

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """The same ensemble with other ``tensors``."""
        ...

    def member(self, index: int) -> Discriminator:
        """One of the R."""
        ...

    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Differentiable:
        """With units of each of N rows dropped; masks of member r from generators[r] alone."""
        ...
