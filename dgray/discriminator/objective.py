r"""Training objectives of discriminators.

All are integrands over ln sigma, per sample, in units in which no weighting is the ``likelihood``
weighting: for the KL objective that is the integrand of the path KL up to a constant, and for the
cross-entropy the distribution of noise levels of Kim et al. 2023 (arXiv 2211.17091).

Noised samples are x = x0 + sigma n. ``cross_entropy`` is the usual logistic loss; its optimum is
the log-ratio. ``kl`` is denoising score matching of the *guided* score (Verine et al. 2025, arXiv
2503.16117, Eq. 15; weighting as in docs/theory.md): it equals
E|sigma (grad log p_data - s - grad d)|^2 plus a constant that depends on no discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import softplus
from typing_extensions import override

from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.shapes import Labels, Scalars, Vectors
from dgray.discriminator.discriminator import Differentiable


@dataclass(frozen=True)
class Noised:
    """Noised samples of one distribution, x = x0 + sigma n.

    Attributes:
        noise: n, standard normal, shape (..., N, d).
        sigma: noise levels, shape (..., N), > 0.
        x: shape (..., N, d).
        labels: classes, int64, of the shape of sigma; None if no model is conditional.
    """

    noise: Vectors
    sigma: Scalars
    x: Vectors
    labels: Labels | None = None

    @staticmethod
    def of(clean: Vectors, noise: Vectors, sigma: Scalars, labels: Labels | None = None) -> Noised:
        """Add noise to clean samples of shape (..., N, d)."""
        return Noised(noise, sigma, clean + sigma[..., None] * noise, labels)

    def rows(self, start: int, stop: int) -> Noised:
        """Return samples ``start`` to ``stop`` of the N."""
        rows = slice(start, stop)
        labels = None if self.labels is None else self.labels[..., rows]
        return Noised(
            self.noise[..., rows, :], self.sigma[..., rows], self.x[..., rows, :], labels
        )


def acting_levels(
    sigma: Scalars, intervals: Collection[tuple[float, float] | None]
) -> Bool[Tensor, "*batch"] | None:
    """Return where noise levels are inside of some guidance interval; None: everywhere."""
    inside = torch.zeros_like(sigma, dtype=torch.bool)
    for interval in intervals:
        if interval is None:
            return None
        inside |= (sigma >= interval[0]) & (sigma <= interval[1])
    return inside


@dataclass(frozen=True)
class Batch:
    """Samples on which an objective is evaluated; the base enters only through its residual.

    Attributes:
        real: noised data.
        compute_residual: returns ``residual``; it calls the base, so it is called only if an
            objective reads the residual.
        generated: samples of the base, noised again; None if the objective needs none.
        compute_time_residual: returns ``time_residual``, likewise; None: no objective reads it.
    """

    real: Noised
    compute_residual: Callable[[], Vectors]
    generated: Noised | None
    compute_time_residual: Callable[[], Scalars] | None = None

    @cached_property
    def residual(self) -> Vectors:
        """Residual n + sigma s(x; sigma) = (D - x0) / sigma of the base, shape (..., N, d)."""
        with torch.no_grad():
            return self.compute_residual()

    @cached_property
    def time_residual(self) -> Scalars:
        """Conditional time score of the data minus that of the base, shape (..., N).

        See ``dgray.discriminator.time_score``.

        Raises:
            ValueError: the batch was built without it.
        """
        if self.compute_time_residual is None:
            raise ValueError("this objective needs the time score of the base, which is not given")
        return self.compute_time_residual()

    @property
    def size(self) -> int:
        """Number N of samples."""
        return self.real.sigma.shape[-1]

    def rows(self, start: int, stop: int) -> Batch:
        """Return samples ``start`` to ``stop``; the residual is computed for all N at once."""
        generated = None if self.generated is None else self.generated.rows(start, stop)
        real = self.real.rows(start, stop)
        return Batch(
            real,
            lambda: self.residual[..., start:stop, :],
            generated,
            lambda: self.time_residual[..., start:stop],
        )


@dataclass(frozen=True)
class Outputs:
    """Outputs of a discriminator on a batch, each computed at most once and only if it is read.

    Attributes:
        discriminator: an ensemble in training: the leading dimension is that of its members.
        batch: its samples, all of shape (..., N, d).
    """

    discriminator: Differentiable
    batch: Batch

    @cached_property
    def real_logit(self) -> Scalars:
        """Logit d on the real samples, shape (..., N)."""
        real = self.batch.real
        return with_labels(self.discriminator, real.labels).logit(real.x, real.sigma)

    @cached_property
    def generated_logit(self) -> Scalars:
        """Logit d on the generated samples, shape (..., N).

        Raises:
            ValueError: the batch has no generated samples.
        """
        generated = self.batch.generated
        if generated is None:
            raise ValueError(
                "this objective needs generated samples, but the batch has none; set "
                "base.num_generated > 0"
            )
        discriminator = with_labels(self.discriminator, generated.labels)
        return discriminator.logit(generated.x, generated.sigma)

    @cached_property
    def scaled_gradient(self) -> Vectors:
        """Gradient of the logit times sigma on the real samples, shape (..., N, d)."""
        real = self.batch.real
        gradient = with_labels(self.discriminator, real.labels).gradient(real.x, real.sigma)
        return real.sigma[..., None] * gradient

    def scaled_gradient_within(self, intervals: Collection[tuple[float, float] | None]) -> Vectors:
        """Return ``scaled_gradient`` inside of some interval of noise levels; None: everywhere.

        Elsewhere it is not computed, and is 0, unless it has been computed before.
        """
        real = self.batch.real
        inside = acting_levels(real.sigma, intervals)
        if inside is None or "scaled_gradient" in vars(self):
            return self.scaled_gradient
        labels = None if real.labels is None else real.labels.expand(inside.shape)[inside]
        sigma, gradient = real.sigma[inside], torch.zeros_like(real.x)
        discriminator = with_labels(self.discriminator, labels)
        gradient[inside] = sigma[:, None] * discriminator.gradient(real.x[inside], sigma)
        return gradient


class Objective(Protocol):
    """Loss of a discriminator on every sample of a batch.

    A user's objective is a callable of this form. The catalogue builds it by calling its factory
    with the options of its specification as keyword arguments.
    """

    def __call__(self, outputs: Outputs, /) -> Scalars:
        """Return the loss of each of the N samples, shape (..., N), in nats.

        It must be differentiable by the tensors of ``outputs.discriminator``. Means over samples
        and noise levels, and the weighting of noise levels, are applied by the training.
        """
        ...


Loss = Callable[[Any, Batch], Scalars]
"""Loss (..., N) of an ensemble in training on the samples of a batch."""


@dataclass(frozen=True)
class ObjectiveLoss:
    """Loss of a discriminator by an objective."""

    objective: Objective

    def __call__(self, discriminator: Differentiable, batch: Batch) -> Scalars:
        """Return the loss of each sample, shape (..., N)."""
        return self.objective(Outputs(discriminator, batch))


def denoising_residual(base: Denoiser, real: Noised) -> Vectors:
    """Return n + sigma s(x; sigma) = (D(x; sigma) - x0) / sigma, shape (..., N, d)."""
    denoised = with_labels(base, real.labels)(real.x, real.sigma)
    return real.noise + (denoised - real.x) / real.sigma[..., None]


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """softplus(-d) on real plus softplus(d) on generated samples; ln 4 where d = 0.

    Rows of the two sets share a noise level and nothing else.

    Attributes:
        gradient_penalty: factor of an additional term |sigma grad d|^2 on the real samples, the
            squared correction by guidance; >= 0.
    """

    gradient_penalty: float = 0.0

    @override
    def __call__(self, outputs: Outputs, /) -> Scalars:
        loss = softplus(-outputs.real_logit) + softplus(outputs.generated_logit)
        if self.gradient_penalty == 0:
            return loss
        return loss + self.gradient_penalty * (outputs.scaled_gradient**2).sum(-1)


@dataclass(frozen=True)
class Kl(Objective):
    """|n + sigma s + sigma grad d|^2 on real samples.

    Since grad log p(x | x0) = -n / sigma this is sigma^2 times the squared error of the guided
    score, equivalently |D_1(x; sigma) - x0|^2 / sigma^2.
    """

    @override
    def __call__(self, outputs: Outputs, /) -> Scalars:
        return ((outputs.batch.residual + outputs.scaled_gradient) ** 2).sum(-1)


@dataclass(frozen=True)
class Mixed(Objective):
    """kl + gamma cross_entropy (after Verine et al. 2025, Eq. 17; the place of gamma is ours).

    Attributes:
        gamma: weight of the cross-entropy, >= 0.
    """

    gamma: float

    @override
    def __call__(self, outputs: Outputs, /) -> Scalars:
        return Kl()(outputs) + self.gamma * CrossEntropy()(outputs)


def edm_weighting(sigma: Scalars, sigma_data: float) -> Scalars:
    """Return EDM's loss weighting relative to the likelihood's, 1 + sigma^2 / sigma_data^2.

    Karras et al. 2022 weigh |D - x0|^2 by (sigma^2 + sigma_data^2) / (sigma sigma_data)^2; here
    losses are in units of |D - x0|^2 / sigma^2.
    """
    return 1 + (sigma / sigma_data) ** 2
