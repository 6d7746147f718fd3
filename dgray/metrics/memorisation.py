r"""Memorisation: whether samples, images or their features repeat the training set.

After Carlini et al. 2023 (arXiv 2301.13188) and the authenticity of Alaa et al. 2022 (arXiv
2102.08921). Given n training and h held-out points of the same distribution, the nearest of the n
+ h points to a fresh sample is a training point with probability p = n / (n + h). The score is
half the excess over p, (share - p) / (2 (1 - p)): 0 for a model that generalises and 1/2 for one
that copies. For n = h it is the share minus 1/2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from dgray.errors import MetricError
from dgray.metrics.distances import check_points, nearest
from dgray.metrics.estimate import Estimate


def memorisation(
    samples: Float[Tensor, "m d"],
    training: Float[Tensor, "n d"],
    held_out: Float[Tensor, "h d"],
) -> Estimate:
    """Return the memorisation of points, with equal numbers of training and held-out points.

    Args:
        samples: generated points; those that are not finite are left out.
        training: training points.
        held_out: held-out points, h >= n; the first n are used.

    Returns:
        The estimate, whose error is over samples for given training and held-out points.

    Raises:
        MetricError: if there are fewer held-out than training points.
    """
    if len(held_out) < len(training):
        raise MetricError(
            "memorisation needs at least as many held-out as training points, but got "
            f"{len(held_out)} and {len(training)}; raise data.num_held_out"
        )
    finite = samples[torch.isfinite(samples).all(1)]
    return Estimate.of(memorisation_scores(finite, training, held_out[: len(training)]))


def memorisation_scores(
    samples: Shaped[Tensor, "m d"],
    training: Shaped[Tensor, "n d"],
    held_out: Shaped[Tensor, "h d"],
) -> Float64[Tensor, "m"]:
    """Return the memorisation of each sample, of which the mean is the score.

    A tie counts p, so that ties of images, whose distances in bytes are exact, are no evidence.
    """
    check_points(training, samples, 1)
    check_points(held_out, samples, 1)
    near, far = nearest(samples, training), nearest(samples, held_out)
    p = len(training) / (len(training) + len(held_out))
    share = torch.where(near == far, p, (near < far).double())
    return (share - p) / (2 * (1 - p))
