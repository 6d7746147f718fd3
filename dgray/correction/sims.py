r"""SIMS: away from a model of the base's own samples (Alemohammad et al. 2024, arXiv 2408.16333).

    D_w(x; sigma) = (1 + w) D(x; sigma) - w D_aux(x; sigma),

with an auxiliary model D_aux trained on samples of the base. Where the base is a network that
dgray can train, D_aux starts from it, as in the paper; else it is a new network of the size of the
section ``discriminator``. No real samples are read. A perfect D_aux is the denoiser of the base's
samples: for a base whose score is that of its samples w has no effect, since D_aux = D. What SIMS
corrects is how the samples differ from what the denoiser implies, and how training on them differs
from training on the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dgray.correction.correction import Inputs
from dgray.correction.trained_networks import TrainedDenoisers, copies_or_new


def build_sims(
    inputs: Inputs, generators: Sequence[torch.Generator], *, network: Mapping[str, Any]
) -> TrainedDenoisers:
    """Return auxiliary models, one for each generator: copies of the base, or new ones."""
    auxiliary = copies_or_new(inputs, generators, network)
    return TrainedDenoisers(auxiliary, inputs.base, sign=-1, on_generated=True)
