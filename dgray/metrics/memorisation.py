r"""Whether images or their features repeat the training set.

After Carlini et al. 2023 (arXiv 2301.13188) and the authenticity of Alaa et al. 2022 (arXiv
2102.08921). Given n training and h held-out points of the same law, a fresh sample's nearest
neighbour among the n + h is a training point with probability p = n / (n + h). The score is half
the excess over that, (share - p) / (2 (1 - p)): 0 for a model that generalises, 1/2 for one that
copies, and the share minus 1/2 where n = h, as in ``dgray.metrics.neighbours``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgray.metrics.distances import check_points, nearest
from dgray.metrics.estimate import Estimate


def image_memorisation(samples: Tensor, training: Tensor, held_out: Tensor) -> Estimate:
    """Half the excess of samples that are nearer to a training point than to any held-out one.

    Args:
        samples: shape (m, d), m > 0; features, or pixels in 0..255, whose ties are exact.
        training: shape (n, d), n > 0.
        held_out: shape (h, d), h > 0.

    A tie counts p. The error is over the samples, given the two sets.
    """
    return Estimate.of(memorisation_scores(samples, training, held_out))


def memorisation_scores(samples: Tensor, training: Tensor, held_out: Tensor) -> Tensor:
    """The same of each sample, float64 (m,): their mean is the memorisation."""
    check_points(training, samples, 1)
    check_points(held_out, samples, 1)
    near, far = nearest(samples, training), nearest(samples, held_out)
    p = len(training) / (len(training) + len(held_out))
    share = torch.where(near == far, p, (near < far).double())
    return (share - p) / (2 * (1 - p))
