r"""Autoguidance: away from a weaker model of the same data (Karras et al. 2024, arXiv 2406.02507).

The corrected denoiser is

    D_w(x; sigma) = D(x; sigma) + w (D(x; sigma) - D_weak(x; sigma)),

with a model D_weak that makes the errors of the base more strongly, since it is smaller or was
trained for a shorter time. The paper's guidance factor is 1 + w.

The weak model is a network of the size of the section ``discriminator``, trained on the real
samples of the replicate for the epochs of ``fit``. w = 1 is no exact correction: whether any w
helps depends on how similar the errors of the two models are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dgray.correction.correction import Inputs
from dgray.correction.trained_networks import TrainedDenoisers, new_denoisers


def build_autoguidance(
    inputs: Inputs, generators: Sequence[torch.Generator], *, network: Mapping[str, Any]
) -> TrainedDenoisers:
    """Return untrained weak models, one for each generator, of the size of ``network``."""
    weak = new_denoisers(inputs, generators, network)
    return TrainedDenoisers(weak, inputs.base, sign=-1, on_generated=False)
