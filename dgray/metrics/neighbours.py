r"""Nearest-neighbour estimates from samples alone, for a few dimensions.

The KL estimate is that of Wang, Kulkarni and Verdu 2009 (IEEE Trans. Inf. Theory 55(5), Eq. 14):
with rho the distance of each of n data points to its k-th neighbour among the others, and nu that
to its k-th neighbour among m samples, KL ~ d mean(ln nu / rho) + ln(m / (n - 1)). Biased where
densities are rough at the scale of the neighbours, so it is always given with its floor: the same
estimate with fresh data in place of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from dgray.metrics.estimate import Estimate

Array = NDArray[np.float64]
BLOCKS = 10  # of the jackknife


@dataclass(frozen=True)
class NeighbourReference:
    """Data points, and what every comparison of samples with them needs.

    Attributes:
        points: shape (n, d).
        k: the neighbour used; more is smoother and more biased.
        log_rho: log distance of each point to its own k-th neighbour: among all, then with each
            block of a jackknife left out (of the points that stay).
    """

    points: Array
    k: int
    log_rho: tuple[Array, ...]

    @staticmethod
    def of(data: Tensor, k: int = 5) -> NeighbourReference:
        """From points of shape (n, d), n > 2 k."""
        points = _array(data)
        kept = [points, *(_without(points, block) for block in range(BLOCKS))]
        return NeighbourReference(points, k, tuple(_log_distance(p, p, k + 1) for p in kept))

    def kl_values(self, samples: Tensor) -> Tensor:
        """KL(data, law of the samples) in nats: of everything, then without each block.

        Samples of shape (m, d), m > 2 k; the result, shape (1 + BLOCKS,), is for ``jackknife``.
        A block is every BLOCKS-th point and sample, so differences of two sample sets of equal
        seeds are paired. All values are infinite if some samples are not finite.
        """
        if not torch.isfinite(samples).all():
            return torch.full((1 + BLOCKS,), math.inf, dtype=torch.float64)
        others = _array(samples)
        values = [self._kl(self.points, others, self.log_rho[0])]
        for block in range(BLOCKS):
            points, kept = _without(self.points, block), _without(others, block)
            values.append(self._kl(points, kept, self.log_rho[1 + block]))
        return torch.tensor(values, dtype=torch.float64)

    def _kl(self, points: Array, others: Array, log_rho: Array) -> float:
        log_nu = _log_distance(points, others, self.k)
        offset = math.log(len(others) / (len(points) - 1))
        return float(points.shape[1] * (log_nu - log_rho).mean() + offset)


def jackknife(values: Tensor) -> Estimate:
    """The first value, with the standard error that leaving out each block gives.

    The delete-a-group jackknife (Shao and Wu 1989, Ann. Statist. 17(3)) sees what a spread over
    data points cannot: the finite sample set, and neighbours that points share. For neighbours,
    which are not smooth in the points, it is conservative: 1.0 to 1.6 times the spread over
    repetitions where that was measured.
    """
    if not torch.isfinite(values).all():
        return Estimate(float(values[0]), math.nan)
    spread = values[1:] - values[1:].mean()
    return Estimate(float(values[0]), float(((BLOCKS - 1) / BLOCKS * (spread**2).sum()).sqrt()))


def nearest_neighbour_kl(data: Tensor, samples: Tensor, k: int = 5) -> Estimate:
    """KL(data, law of the samples) in nats from points alone, shapes (n, d) and (m, d)."""
    return jackknife(NeighbourReference.of(data, k).kl_values(samples))


def memorisation(samples: Tensor, training: Tensor, held_out: Tensor) -> Estimate:
    """Share of samples that are nearer to a training point than to any held-out one, minus 1/2.

    Args:
        samples: shape (m, d).
        training: shape (n, d).
        held_out: shape (h, d), h >= n; its first n points are used, so that the sets are equal.

    About 0 for a model that generalises, up to 1/2 for one that repeats its training points
    The standard error is over the samples, given the two sets of points.
    (After Carlini et al. 2023, arXiv 2301.13188, and the authenticity score of Alaa et al. 2022.)
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


def _without(points: Array, block: int) -> Array:
    return np.delete(points, np.s_[block::BLOCKS], axis=0)


def _log_distance(points: Array, others: Array, k: int) -> Array:
    """Log distance of each point to its k-th neighbour among the others, shape (n,)."""
    distance = cKDTree(others).query(points, k=[k])[0][:, 0]
    # Coinciding points: a huge, not an infinite, log-density.
    return np.asarray(np.log(np.maximum(distance, np.finfo(np.float64).tiny)))


def _array(points: Tensor) -> Array:
    return np.asarray(points.detach().double().cpu().numpy())
