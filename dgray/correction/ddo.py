r"""DDO: fine-tuning by an implicit discriminator (Zheng et al. 2025, arXiv 2503.01103).

A copy D' of the base's network is its own discriminator: the logit of a sample x0 is the log-ratio
of the two models' likelihoods, which for diffusion models is estimated by the difference of their
denoising errors at one noise level,

    delta(x0, n, sigma) = beta (|D(x; sigma) - x0|^2 - |D'(x; sigma) - x0|^2) / sigma^2,

the integrand over ln sigma of the log-ratio of the likelihood bounds, times beta. The loss is the
logistic one with each estimate in place of its mean (an upper bound by Jensen's inequality),

    E_data softplus(-delta) + alpha E_base softplus(delta).

The corrected model is D' alone, w = 1; other weights interpolate the denoisers, as for
fine-tuning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import softplus
from typing_extensions import override

from dgray.correction.correction import Inputs
from dgray.correction.network_ensemble import copies_of_base
from dgray.correction.trained_networks import TrainedDenoisers, denoiser_loss
from dgray.diffusion.shapes import Scalars, Vectors
from dgray.discriminator.objective import Batch, Noised, denoising_residual


@dataclass(frozen=True)
class ImplicitDiscriminators(TrainedDenoisers):
    """Copies of the base in training, one for each replicate.

    Attributes:
        alpha: factor of the loss on samples of the base, >= 0.
        beta: scale of the implicit logit, > 0.
    """

    alpha: float
    beta: float

    @override
    def loss(self, batch: Batch) -> Scalars:
        assert batch.generated is not None  # needs_generated
        with torch.no_grad():
            of_generated = denoising_residual(self.base, batch.generated)
        real = self._logit(batch.real, batch.residual)
        generated = self._logit(batch.generated, of_generated)
        return softplus(-real) + self.alpha * softplus(generated)

    def _logit(self, noised: Noised, base_residual: Vectors) -> Scalars:
        """Return delta of each sample, shape (R, N)."""
        own = denoiser_loss(self.networks(noised), noised)
        return self.beta * ((base_residual**2).sum(-1) - own)


def build_ddo(
    inputs: Inputs, generators: Sequence[torch.Generator], *, alpha: float, beta: float
) -> ImplicitDiscriminators:
    """Return copies of the base, one for each generator.

    Raises:
        CorrectionError: if the base has no network that dgray can train.
    """
    networks = copies_of_base(inputs.base, len(generators), inputs.shape)
    return ImplicitDiscriminators(
        networks, inputs.base, sign=1, on_generated=False, alpha=alpha, beta=beta
    )
