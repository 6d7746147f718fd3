r"""Fine-tuning: continued training of the base on the real samples of the replicate.

Every replicate trains a copy D' of the base's network on its own real samples by the denoising
error E |D'(x; sigma) - x0|^2 / sigma^2, weighted over noise levels as ``fit`` states: with
``weighting: likelihood`` and ``noise.law: log_uniform`` the integrand of the path KL, with
``edm`` and ``log_normal`` the loss that trained the base (Karras et al. 2022, arXiv 2206.00364).
The weight interpolates denoisers, not parameters: D_w = D + w (D' - D), so 0 is the base, 1 the
fine-tuned network, and D_w is linear in w, as the path KL at all weights and the calibrated weight
need. The baseline that decides whether another correction is worth its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from typing_extensions import override

from dgray.correction.correction import Inputs
from dgray.correction.difference import DenoiserDifference
from dgray.correction.network_ensemble import copies_of_base
from dgray.correction.trained_networks import TrainedNetworks, denoiser_loss
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.shapes import Scalars
from dgray.discriminator.objective import Batch


@dataclass(frozen=True)
class FineTuning(TrainedNetworks):
    """Copies of the base in training, one for each replicate.

    Attributes:
        base: denoiser to be corrected.
    """

    base: Denoiser

    @override
    def loss(self, batch: Batch) -> Scalars:
        return denoiser_loss(self.networks(batch.real), batch.real)

    @override
    def member(self, index: int) -> DenoiserDifference:
        tuned, tensors = self.trained(index)
        return DenoiserDifference(self.base, tuned, 1, tensors)


def build_fine_tune(inputs: Inputs, generators: Sequence[torch.Generator]) -> FineTuning:
    """Return copies of the base, one for each generator.

    Raises:
        CorrectionError: if the base has no network that dgray can train.
    """
    networks = copies_of_base(inputs.base, len(generators), inputs.shape)
    return FineTuning(networks, inputs.base)
