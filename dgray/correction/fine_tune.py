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

import torch

from dgray.correction.correction import Inputs
from dgray.correction.network_ensemble import copies_of_base
from dgray.correction.trained_networks import TrainedDenoisers


def build_fine_tune(inputs: Inputs, generators: Sequence[torch.Generator]) -> TrainedDenoisers:
    """Return copies of the base, one for each generator.

    Raises:
        CorrectionError: if the base has no network that dgray can train.
    """
    networks = copies_of_base(inputs.base, len(generators), inputs.shape)
    return TrainedDenoisers(networks, inputs.base, sign=1, on_generated=False)
