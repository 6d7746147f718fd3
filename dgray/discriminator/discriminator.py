r"""Interfaces of discriminators, and the controls whose answer is known.

A discriminator gives a logit d(x; sigma), its estimate of log p_data - log p_model at x and sigma.
Guidance uses its gradient, likelihoods its Laplacian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from dgray.diffusion.denoiser import Conditional, with_labels
from dgray.diffusion.mixture import ExactLaw
from dgray.diffusion.noise import on_device
from dgray.diffusion.shapes import Labels, Probes, Scalars, Vectors


class Differentiable(Protocol):
    """Scalar field with a gradient: the interface of a discriminator that objectives use.

    x has shape (..., d) and sigma, > 0, shape (...).
    """

    def logit(self, x: Vectors, sigma: Scalars) -> Scalars:
        """Return d(x; sigma) in nats, shape (...)."""
        ...

    def gradient(self, x: Vectors, sigma: Scalars) -> Vectors:
        """Return grad_x d, shape (..., d), differentiable by the trained tensors."""
        ...


class Discriminator(Differentiable, Protocol):
    """Scalar field with gradient and Laplacian."""

    def gradient_and_laplacian(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        """Return grad_x d, shape (..., d), and sum_i d2d/dx_i^2, shape (...), without a graph.

        Args:
            x: shape (..., d).
            sigma: shape (...), > 0.
            probes: vectors of +-1, shape (P, ..., d), for Hutchinson's estimate of the Laplacian;
                ignored where the exact one is cheap.
        """
        ...


Rows = Float[Tensor, "*#batch d"]
"""Samples of an ensemble, (R, N, d) or, shared by all members, (1, N, d); their gradients."""

RowScalars = Float[Tensor, "*#batch"]
"""Noise levels of an ensemble, (R, N) or (1, N); logits and Laplacians, (R, N)."""

RowProbes = Float[Tensor, "num_probes *#batch d"]
"""Probes of an ensemble, (P, R, N, d) or (P, 1, N, d)."""


class Trainable(Protocol):
    """R models of one architecture, trained together; tensors carry a leading dimension R."""

    @property
    def num_parameters(self) -> int:
        """Number of trained parameters of one member."""
        ...

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All trained tensors, always in the same order."""
        ...

    def with_tensors(self, tensors: Sequence[Tensor]) -> Self:
        """Return the same ensemble with other ``tensors``."""
        ...

    def member(self, index: int) -> Any:
        """Return one of the R models, bound to no labels."""
        ...

    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Any:
        """Return the ensemble with dropout on each of N rows, as its loss reads it.

        Args:
            probability: probability that a unit is dropped, in [0, 1).
            generators: on the CPU; generators[r] alone draws the masks of member r.
            num_rows: N.
        """
        ...


class Ensemble(Discriminator, Trainable, Protocol):
    """R discriminators of one architecture.

    It takes x of shape (R, N, d) and sigma of shape (R, N), or (1, N, d) and (1, N) for rows that
    all members share. Every member equals the member alone up to rounding.
    """

    @override
    def member(self, index: int) -> Discriminator:
        """Return one of the R discriminators, bound to no labels."""
        ...

    @override
    def dropped(
        self, probability: float, generators: Sequence[torch.Generator], num_rows: int
    ) -> Differentiable: ...


def draw_dropout_masks(
    probability: float,
    generators: Sequence[torch.Generator],
    shapes: Sequence[tuple[int, ...]],
    like: Tensor,
) -> tuple[Tensor, ...]:
    """Draw inverted dropout masks, 0 or 1 / (1 - probability).

    Args:
        probability: probability that a unit is dropped, in [0, 1).
        generators: R of them, on the CPU.
        shapes: shapes of the masks of one member.
        like: tensor of the dtype and device of the masks.

    Returns:
        One mask of shape (R, *shape) for each of the shapes.
    """
    masks = []
    for shape in shapes:
        uniform = torch.stack([torch.rand(shape, generator=g) for g in generators])
        kept = on_device(uniform >= probability, like.device)
        masks.append(kept.to(like.dtype) / (1 - probability))
    return tuple(masks)


@dataclass(frozen=True)
class ZeroDiscriminator(Discriminator):
    """The uninformed discriminator, logit 0: guidance by it is the base."""

    @override
    def logit(self, x: Vectors, sigma: Scalars) -> Scalars:
        return torch.zeros_like(sigma)

    @override
    def gradient(self, x: Vectors, sigma: Scalars) -> Vectors:
        return torch.zeros_like(x)

    @override
    def gradient_and_laplacian(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        return torch.zeros_like(x), torch.zeros_like(sigma)


@dataclass(frozen=True)
class Oracle(Discriminator, Conditional):
    """Exact log-ratio of two distributions: the logit of a perfect discriminator.

    Conditional if one of them is: the log-ratio is then that of the class.
    """

    data: ExactLaw
    model: ExactLaw

    @property
    @override
    def num_classes(self) -> int:
        laws = self.data, self.model
        return max(law.num_classes if isinstance(law, Conditional) else 0 for law in laws)

    @override
    def with_labels(self, labels: Labels) -> Oracle:
        return Oracle(with_labels(self.data, labels), with_labels(self.model, labels))

    @override
    def logit(self, x: Vectors, sigma: Scalars) -> Scalars:
        return self.data.log_prob(x, sigma) - self.model.log_prob(x, sigma)

    @override
    def gradient(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self.data.score(x, sigma) - self.model.score(x, sigma)

    @override
    def gradient_and_laplacian(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        laplacian = self.data.laplacian(x, sigma) - self.model.laplacian(x, sigma)
        return self.gradient(x, sigma), laplacian


def exact_log_ratio(log_ratio: Discriminator) -> Discriminator:
    """Return the exact log-ratio itself: the control ``oracle``."""
    return log_ratio


@dataclass(frozen=True)
class Oscillating(Discriminator, Conditional):
    """Another discriminator + amplitude sin(frequency x_1), at every sigma.

    The counter-example of Verine et al. 2025 (arXiv 2503.16117, Section 4 and App. A.2): the
    cross-entropy rises by about amplitude^2 / 8 at every frequency, the squared gradient error by
    about (amplitude frequency)^2 / 2.
    """

    inner: Discriminator
    amplitude: float
    frequency: float

    @property
    @override
    def num_classes(self) -> int:
        return self.inner.num_classes if isinstance(self.inner, Conditional) else 0

    @override
    def with_labels(self, labels: Labels) -> Oscillating:
        return replace(self, inner=with_labels(self.inner, labels))

    @override
    def logit(self, x: Vectors, sigma: Scalars) -> Scalars:
        wave = torch.sin(self.frequency * x[..., 0])
        return self.inner.logit(x, sigma) + self.amplitude * wave

    @override
    def gradient(self, x: Vectors, sigma: Scalars) -> Vectors:
        return self._add_slope(self.inner.gradient(x, sigma), x)

    @override
    def gradient_and_laplacian(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        gradient, laplacian = self.inner.gradient_and_laplacian(x, sigma, probes)
        curvature = self.amplitude * self.frequency**2 * torch.sin(self.frequency * x[..., 0])
        return self._add_slope(gradient, x), laplacian - curvature

    def _add_slope(self, gradient: Tensor, x: Tensor) -> Tensor:
        slope = self.amplitude * self.frequency * torch.cos(self.frequency * x[..., 0])
        return torch.cat([gradient[..., :1] + slope[..., None], gradient[..., 1:]], dim=-1)
