r"""Mean and covariance of features, computed in shards and merged.

A shard has its count n, mean m and scatter M = sum (f - m)(f - m)^T about its own mean. Two
merge by (Chan, Golub and LeVeque 1983, The American Statistician 37(3), Eq. 2.1)

    n = n1 + n2,  m = m1 + (n2 / n) g,  M = M1 + M2 + (n1 n2 / n) g g^T,  g = m2 - m1.

Sums of f and f f^T would merge by addition, but the covariance is then a difference of large
numbers, which loses twice the digits by which the mean exceeds the spread. Shards merge from left
to right in their order, in float64, so that the result depends on the partition into shards but
not on the number of workers. Every shard states its features, and the number of images is checked:
a few missing images, divided by the number that should be there, can double an FID.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Self

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike, NDArray

from dgray.errors import FeaturesError
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.frechet import one_blas_thread

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of a set of features, from which Fréchet distances are computed.

    Attributes:
        mean: mean.
        covariance: unbiased covariance.
        count: number of images; None if unknown.
        source: the features; None if unknown.
    """

    mean: Float64[np.ndarray, "d"]
    covariance: Float64[np.ndarray, "d d"]
    count: int | None = None
    source: FeatureSource | None = None

    @classmethod
    def from_npz(cls, content: bytes, source: FeatureSource | None = None) -> Self:
        """Read a file of reference statistics in the format of EDM and clean-fid.

        Args:
            content: npz file with ``mu`` and ``sigma``.
            source: the features, which the file does not name.

        Raises:
            FeaturesError: if the file has another format.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            raise FeaturesError(
                f"reference statistics must be an npz file with arrays mu and sigma: {error}"
            ) from error
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise FeaturesError(
                "reference statistics must have mu of shape (d,) and sigma of shape (d, d), but "
                f"these have {mean.shape} and {covariance.shape}"
            )
        return cls(mean, covariance, None, source)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Statistics of n feature vectors that can be merged with those of others.

    Attributes:
        count: n > 0.
        mean: mean.
        scatter: sum of outer products of deviations from the mean.
        source: the features.
    """

    count: int
    mean: Float64[np.ndarray, "d"]
    scatter: Float64[np.ndarray, "d d"]
    source: FeatureSource

    @classmethod
    def of(cls, features: ArrayLike, source: FeatureSource) -> Self:
        """Compute statistics in float64 of features of shape (n, d), n > 0, and any float type.

        Raises:
            FeaturesError: if the shape is another, or some numbers are nan or infinite.
        """
        array = np.asarray(features, dtype=np.float64)
        if array.ndim != 2 or len(array) == 0 or array.shape[1] != source.dimension:
            raise FeaturesError(
                f"features {source.name} must have shape (n, {source.dimension}) with n > 0, but "
                f"got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise FeaturesError(
                f"features {source.name} must be finite, but some are nan or infinite"
            )
        mean = array.mean(0)
        centred = array - mean
        with one_blas_thread():
            return cls(len(array), mean, centred.T @ centred, source)

    @classmethod
    def merged(cls, parts: Sequence[Self], *, expected: int) -> Self:
        """Merge statistics from left to right.

        Args:
            parts: statistics of shards in their order, of the same features.
            expected: total number of images.

        Raises:
            FeaturesError: if the number of images is another, or the features differ.
        """
        count = sum(part.count for part in parts)
        if not parts or count != expected:
            raise FeaturesError(
                f"the shards must hold {expected} images in total, but {len(parts)} shards hold "
                f"{count}; some are missing or duplicated"
            )
        for index, part in enumerate(parts):
            check_same_source(parts[0].source, part.source, f"shards 0 and {index}")
        return reduce(cls._merged_with, parts)

    def _merged_with(self, other: Self) -> Self:
        count = self.count + other.count
        gap = other.mean - self.mean
        mean = self.mean + other.count / count * gap
        between = self.count * other.count / count * np.outer(gap, gap)
        scatter = self.scatter + other.scatter + between
        return type(self)(count, mean, scatter, self.source)

    @property
    def covariance(self) -> Array:
        """Unbiased covariance (divided by n - 1), shape (d, d), of at least two vectors."""
        if self.count < 2:
            raise FeaturesError(
                f"a covariance needs at least 2 feature vectors, but got {self.count}"
            )
        return self.scatter / (self.count - 1)

    @property
    def moments(self) -> Moments:
        """Mean and covariance of at least two vectors."""
        return Moments(self.mean, self.covariance, self.count, self.source)


def check_same_source(first: FeatureSource, second: FeatureSource, which: str) -> None:
    """Check that two sets hold the same features.

    Raises:
        FeaturesError: if they do not; names the differences.
    """
    if first != second:
        fields = asdict(first)
        differing = [name for name in fields if fields[name] != asdict(second)[name]]
        values = "; ".join(f"{n}: {fields[n]} and {asdict(second)[n]}" for n in differing)
        raise FeaturesError(f"{which} must hold the same features, but differ in {values}")
