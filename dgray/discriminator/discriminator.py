r"""What a discriminator is, and the controls whose answer is known.

A discriminator gives a logit d(x; sigma), its estimate of log p_data - log p_model at x and sigma.
Guidance uses its gradient, likelihoods its Laplacian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from dgray.diffusion.mixture import GaussianMixture


class Differentiable(Protocol):
    """What an objective asks of a discriminator: see ``Discriminator``."""

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """d(x; sigma), shape (...)."""
        ...

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """grad_x d, shape (..., d)."""
        ...


class Discriminator(Differentiable, Protocol):
    """A scalar field and its derivatives; x of shape (..., d), sigma of shape (...), > 0."""

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """d(x; sigma) in nats, shape (...)."""
        ...

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """grad_x d, shape (..., d)."""
        ...

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """grad_x d, shape (..., d), and sum_i d2d/dx_i^2, shape (...).

        ``probes``: see ``Denoiser``; may be used where the exact sum is dear.
        """
        ...


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


@dataclass(frozen=True)
class ZeroDiscriminator:
    """The uninformed discriminator, logit 0: guidance by it is the base."""

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Discriminator``."""
        del x
        return torch.zeros_like(sigma)

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Discriminator``."""
        del sigma
        return torch.zeros_like(x)

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Discriminator``."""
        return torch.zeros_like(x), torch.zeros_like(sigma)


@dataclass(frozen=True)
class Oracle:
    """The exact log-ratio of two mixtures: what a perfect discriminator would say."""

    data: GaussianMixture
    model: GaussianMixture

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Discriminator``."""
        return self.data.log_prob(x, sigma) - self.model.log_prob(x, sigma)

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Discriminator``."""
        return self.data.score(x, sigma) - self.model.score(x, sigma)

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Discriminator``."""
        laplacian = self.data.laplacian(x, sigma) - self.model.laplacian(x, sigma)
        return self.gradient(x, sigma), laplacian


@dataclass(frozen=True)
class Oscillating:
    """Another discriminator + amplitude sin(frequency x_1), at every sigma.

    The counter-example of Verine et al. 2025 (arXiv 2503.16117, Section 4 and App. A.2): the
    cross-entropy rises by about amplitude^2 / 8 whatever the frequency, the squared gradient error
    by about (amplitude frequency)^2 / 2.
    """

    inner: Discriminator
    amplitude: float
    frequency: float

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Discriminator``."""
        wave = torch.sin(self.frequency * x[..., 0])
        return self.inner.logit(x, sigma) + self.amplitude * wave

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        """See ``Discriminator``."""
        return self._add_slope(self.inner.gradient(x, sigma), x)

    def gradient_and_laplacian(
        self, x: Tensor, sigma: Tensor, probes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Discriminator``."""
        gradient, laplacian = self.inner.gradient_and_laplacian(x, sigma, probes)
        curvature = self.amplitude * self.frequency**2 * torch.sin(self.frequency * x[..., 0])
        return self._add_slope(gradient, x), laplacian - curvature

    def _add_slope(self, gradient: Tensor, x: Tensor) -> Tensor:
        slope = self.amplitude * self.frequency * torch.cos(self.frequency * x[..., 0])
        return torch.cat([gradient[..., :1] + slope[..., None], gradient[..., 1:]], dim=-1)
