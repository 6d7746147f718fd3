r"""The Frechet distance of two Gaussians, and statistics of features that merge over shards.

FD = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) (Dowson and Landau 1982, J.
Multivariate Anal. 12(3)). Named FID only on Inception-v3 features (Heusel et al. 2017, arXiv
1706.08500).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureStats:
    """What a Frechet distance needs of n feature vectors; merging is addition.

    Attributes:
        count: n.
        total: sum of the vectors, shape (d,).
        outer: sum of their outer products, shape (d, d).
    """

    count: int
    total: Array
    outer: Array

    @staticmethod
    def of(features: ArrayLike) -> FeatureStats:
        """Statistics of features, shape (n, d), in float64."""
        array = np.asarray(features, dtype=np.float64)
        if array.ndim != 2 or len(array) == 0:
            raise ValueError(f"features must have shape (n, d) with n > 0, but got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("features must be finite, but some are nan or infinite")
        return FeatureStats(len(array), array.sum(0), array.T @ array)

    def merge(self, other: FeatureStats) -> FeatureStats:
        """Statistics of both sets together."""
        return FeatureStats(
            self.count + other.count, self.total + other.total, self.outer + other.outer
        )

    @property
    def mean(self) -> Array:
        """mu, shape (d,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Array:
        """Unbiased sample covariance, shape (d, d); at least two vectors."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, got {self.count}")
        centred = self.outer - self.count * np.outer(self.mean, self.mean)
        return centred / (self.count - 1)


def frechet_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """Squared Frechet distance of N(mu1, sigma1) and N(mu2, sigma2), >= 0, in float64.

    The trace of the product's root comes from symmetric eigenvalues, which are real whatever the
    rank, where a general matrix root (scipy's ``sqrtm``) may turn complex.

    Args:
        mu1: mean, shape (d,).
        sigma1: symmetric positive semidefinite, shape (d, d).
        mu2: likewise.
        sigma2: likewise.
    """
    values, vectors = np.linalg.eigh(np.asarray(sigma1, dtype=np.float64))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = np.linalg.eigvalsh(root @ np.asarray(sigma2, dtype=np.float64) @ root)
    overlap = np.sqrt(np.clip(product, 0, None)).sum()
    gap = np.asarray(mu1, dtype=np.float64) - np.asarray(mu2, dtype=np.float64)
    return max(0.0, float(gap @ gap + np.trace(sigma1) + np.trace(sigma2) - 2 * overlap))
