r"""Nearest-neighbour estimates from samples alone, for a few dimensions.

The KL estimate is that of Wang, Kulkarni and Verdu 2009 (IEEE Trans. Inf. Theory 55(5), Eq. 14):
with rho the distance of each of n data points to its k-th neighbour among the others, and nu that
to its k-th neighbour among m samples, KL ~ d mean(ln nu / rho) + ln(m / (n - 1)). Biased where
densities are rough at the scale of the neighbours, so it is always given with its floor: the same
estimate with fresh data in place of samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from dgray.metrics.estimate import Estimate


def nearest_neighbour_kl(data: Tensor, samples: Tensor, k: int = 5) -> Estimate:
    """KL(data, law of the samples) in nats from points alone.

    Args:
        data: n points, shape (n, d), n > k.
        samples: m points, shape (m, d), m >= k.
        k: the neighbour used; more is smoother and more biased.

    The standard error is that of the mean over data points and takes them as independent. With
    samples that are not finite the estimate is infinite.
    """
    if not torch.isfinite(samples).all():
        return Estimate(math.inf, math.nan)
    points, others = _array(data), _array(samples)
    rho = cKDTree(points).query(points, k=[k + 1])[0][:, 0]
    nu = cKDTree(others).query(points, k=[k])[0][:, 0]
    tiny = np.finfo(np.float64).tiny  # coinciding points: a huge, not an infinite, log-density
    ratio = np.log(np.maximum(nu, tiny)) - np.log(np.maximum(rho, tiny))
    offset = math.log(len(others) / (len(points) - 1))
    return Estimate.of(torch.from_numpy(points.shape[1] * ratio + offset))


def memorisation(samples: Tensor, training: Tensor, held_out: Tensor) -> Estimate:
    """Share of samples that are nearer to a training point than to any held-out one, minus 1/2.

    Args:
        samples: shape (m, d).
        training: shape (n, d).
        held_out: shape (h, d), h >= n; its first n points are used, so that the sets are equal.

    About 0 for a model that generalises, up to 1/2 for one that repeats its training points
    (after Carlini et al. 2023, arXiv 2301.13188, and the authenticity score of Alaa et al. 2022).
    """
    if len(held_out) < len(training):
        raise ValueError(
            "memorisation needs at least as many held-out as training points, but got "
            f"{len(held_out)} and {len(training)}; raise data.num_held_out"
        )
    finite = samples[torch.isfinite(samples).all(1)]
    near = cKDTree(_array(training)).query(_array(finite))[0]
    far = cKDTree(_array(held_out[: len(training)])).query(_array(finite))[0]
    return Estimate.of(torch.from_numpy((near < far).astype(np.float64) - 0.5))


def _array(points: Tensor) -> np.ndarray:
    return points.detach().double().cpu().numpy()
