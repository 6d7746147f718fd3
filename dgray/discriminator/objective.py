r"""The objectives: what a discriminator is trained to minimise.

All are integrands over ln sigma, per sample, in units in which no weighting is the ``likelihood``
weighting: for the KL objective that is the integrand of the path KL up to a constant, and for the
cross-entropy the noise law of Kim et al. 2023 (arXiv 2211.17091).

Noised samples are x = x0 + sigma n. ``cross_entropy`` is the usual logistic loss; its optimum is
the log-ratio. ``kl`` is denoising score matching of the *guided* score (Verine et al. 2025, arXiv
2503.16117, Eq. 15; weighting as in docs/theory.md): it equals
E|sigma (grad log p_data - s - grad d)|^2 plus a constant that depends on no discriminator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn.functional import softplus

from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.discriminator.discriminator import Differentiable


@dataclass(frozen=True)
class Noised:
    """Samples of one law, noised: x = x0 + sigma noise.

    Attributes:
        noise: n, standard normal, shape (..., N, d).
        sigma: shape (..., N), > 0.
        x: shape (..., N, d).
        labels: classes, int64, of the shape of sigma; None where no model asks for them.
    """

    noise: Tensor
    sigma: Tensor
    x: Tensor
    labels: Tensor | None = None

    @staticmethod
    def of(clean: Tensor, noise: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Noised:
        """Noise clean samples, shape (..., N, d)."""
        return Noised(noise, sigma, clean + sigma[..., None] * noise, labels)

    def rows(self, start: int, stop: int) -> Noised:
        """Some of the N samples."""
        cut = slice(start, stop)
        labels = None if self.labels is None else self.labels[..., cut]
        return Noised(self.noise[..., cut, :], self.sigma[..., cut], self.x[..., cut, :], labels)


@dataclass(frozen=True)
class Batch:
    """What every objective may look at; the base enters only through its residual.

    Attributes:
        real: noised data.
        residual: n + sigma s(x; sigma) = (D - x0) / sigma of the base on them, shape (..., N, d).
        generated: the base's own samples noised again; None where no objective needs them.
    """

    real: Noised
    residual: Tensor
    generated: Noised | None

    @property
    def size(self) -> int:
        """N."""
        return self.real.sigma.shape[-1]

    def rows(self, start: int, stop: int) -> Batch:
        """Some of the N samples."""
        generated = None if self.generated is None else self.generated.rows(start, stop)
        return Batch(self.real.rows(start, stop), self.residual[..., start:stop, :], generated)


@dataclass(frozen=True)
class Outputs:
    """A discriminator on a batch; each quantity is computed once, when first asked for."""

    discriminator: Differentiable
    batch: Batch

    @cached_property
    def real_logit(self) -> Tensor:
        """The logit on the real samples, shape (..., N)."""
        real = self.batch.real
        return with_labels(self.discriminator, real.labels).logit(real.x, real.sigma)

    @cached_property
    def generated_logit(self) -> Tensor:
        """The logit on the generated samples, shape (..., N)."""
        generated = self.batch.generated
        if generated is None:
            raise ValueError(
                "cross-entropy needs generated samples, but the batch has none; set "
                "base.num_generated > 0"
            )
        return with_labels(self.discriminator, generated.labels).logit(
            generated.x, generated.sigma
        )

    @cached_property
    def scaled_gradient(self) -> Tensor:
        """Logit gradient times sigma on the real samples, shape (..., N, d)."""
        real = self.batch.real
        gradient = with_labels(self.discriminator, real.labels).gradient(real.x, real.sigma)
        return real.sigma[..., None] * gradient


Objective = Callable[[Outputs], Tensor]
"""A discriminator's loss on each of a batch's N samples, shape (..., N), in nats."""


def denoising_residual(base: Denoiser, real: Noised) -> Tensor:
    """The residual n + sigma s(x; sigma) = (D(x; sigma) - x0) / sigma, shape (..., N, d)."""
    denoised = with_labels(base, real.labels)(real.x, real.sigma)
    return real.noise + (denoised - real.x) / real.sigma[..., None]


@dataclass(frozen=True)
class CrossEntropy:
    """softplus(-d) on real plus softplus(d) on generated samples; ln 4 where d = 0.

    The two sets are paired row by row only to share a noise level. ``gradient_penalty`` adds its
    value times |sigma grad d|^2 on the real samples: the very quantity that guidance applies.
    """

    gradient_penalty: float = 0.0

    def __call__(self, outputs: Outputs) -> Tensor:
        """See ``Objective``."""
        loss = softplus(-outputs.real_logit) + softplus(outputs.generated_logit)
        if self.gradient_penalty == 0:
            return loss
        return loss + self.gradient_penalty * (outputs.scaled_gradient**2).sum(-1)


@dataclass(frozen=True)
class Kl:
    """|n + sigma s + sigma grad d|^2 on real samples.

    Since grad log p(x | x0) = -n / sigma this is sigma^2 times the squared error of the guided
    score, equivalently |D_1(x; sigma) - x0|^2 / sigma^2.
    """

    def __call__(self, outputs: Outputs) -> Tensor:
        """See ``Objective``."""
        return ((outputs.batch.residual + outputs.scaled_gradient) ** 2).sum(-1)


@dataclass(frozen=True)
class Mixed:
    """kl + gamma cross_entropy (Verine et al. 2025, Eq. 17; the place of gamma is ours)."""

    gamma: float

    def __call__(self, outputs: Outputs) -> Tensor:
        """See ``Objective``."""
        return Kl()(outputs) + self.gamma * CrossEntropy()(outputs)


def edm_weighting(sigma: Tensor, sigma_data: float) -> Tensor:
    """EDM's loss weighting relative to the likelihood's: 1 + sigma^2 / sigma_data^2, shape (...).

    Karras et al. 2022 weigh |D - x0|^2 by (sigma^2 + sigma_data^2) / (sigma sigma_data)^2; here
    losses are in units of |D - x0|^2 / sigma^2.
    """
    return 1 + (sigma / sigma_data) ** 2
