r"""Mean and covariance of features, computed by shards and merged.

A shard keeps its count n, mean m and scatter M = sum (f - m)(f - m)^T about its own mean. Two
merge by (Chan, Golub and LeVeque 1983, The American Statistician 37(3), Eq. 2.1)

    n = n1 + n2,  m = m1 + (n2 / n) g,  M = M1 + M2 + (n1 n2 / n) g g^T,  g = m2 - m1.

Sums of f and f f^T would merge by mere addition, but their covariance is the difference of large
numbers: it loses twice the digits by which the mean exceeds the spread. Merging goes from left to
right in the order of the shards, all in float64. So the result is a function of the partition into
shards, not of how many workers computed them. Every shard says which features it holds, and their
number is checked: dividing by a number that was merely asked for is how a few missing images
double an FID.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Self

import numpy as np
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError

from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.one_thread import one_blas_thread

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """What a Frechet distance needs to know of a set of features.

    Attributes:
        mean: shape (d,).
        covariance: unbiased, shape (d, d).
        count: of how many images; None: the file did not say.
        source: of which features; None: the file did not say.
    """

    mean: Array
    covariance: Array
    count: int | None = None
    source: FeatureSource | None = None

    def to_npz(self) -> bytes:
        """EDM's file of reference statistics: ``mu`` and ``sigma`` in float64, nothing else."""
        file = io.BytesIO()
        np.savez(file, mu=self.mean, sigma=self.covariance)
        return file.getvalue()

    @classmethod
    def from_npz(cls, content: bytes, source: FeatureSource | None = None) -> Self:
        """From EDM's or clean-fid's file; which features it holds is the caller's knowledge.

        Raises:
            ValueError: it is no such file.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
        except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
            raise ValueError(
                f"reference statistics must be an npz file with arrays mu and sigma: {error}"
            ) from error
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                "reference statistics must have mu of shape (d,) and sigma of shape (d, d), but "
                f"these have {mean.shape} and {covariance.shape}"
            )
        return cls(mean, covariance, None, source)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Statistics of n feature vectors, for merging.

    Attributes:
        count: n > 0.
        mean: shape (d,), float64.
        scatter: sum of outer products of deviations from the mean, shape (d, d), float64.
        source: which features these are.
    """

    count: int
    mean: Array
    scatter: Array
    source: FeatureSource

    @classmethod
    def of(cls, features: ArrayLike, source: FeatureSource) -> Self:
        """Of features, shape (n, d), n > 0, of any float type; computed in float64.

        Raises:
            ValueError: the shape is another, or some numbers are nan or infinite.
        """
        array = np.asarray(features, dtype=np.float64)
        if array.ndim != 2 or len(array) == 0 or array.shape[1] != source.dimension:
            raise ValueError(
                f"features {source.name} must have shape (n, {source.dimension}) with n > 0, but "
                f"got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"features {source.name} must be finite, but some are nan or infinite"
            )
        mean = array.mean(0)
        centred = array - mean
        with one_blas_thread():
            return cls(len(array), mean, centred.T @ centred, source)

    @classmethod
    def merged(cls, parts: Sequence[Self], *, expected: int) -> Self:
        """Of the union, from left to right.

        Args:
            parts: statistics of shards in their order, of the same features.
            expected: how many images they must hold together.

        Raises:
            ValueError: they hold another number, or features of different extractors.
        """
        found = sum(part.count for part in parts)
        if not parts or found != expected:
            raise ValueError(
                f"the shards must hold {expected} images together, but the {len(parts)} that are "
                f"there hold {found}; some are missing or there twice"
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
        """Unbiased (divided by n - 1), shape (d, d); at least two vectors."""
        if self.count < 2:
            raise ValueError(
                f"a covariance needs at least 2 feature vectors, but got {self.count}"
            )
        return self.scatter / (self.count - 1)

    @property
    def moments(self) -> Moments:
        """Mean and covariance; at least two vectors."""
        return Moments(self.mean, self.covariance, self.count, self.source)

    def to_bytes(self) -> bytes:
        """As safetensors; equal statistics give equal bytes."""
        facts = {"count": self.count, "source": asdict(self.source)}
        # One entry: safetensors does not keep the order of several.
        metadata = {"feature_statistics": json.dumps(facts, sort_keys=True)}
        return safetensors.numpy.save({"mean": self.mean, "scatter": self.scatter}, metadata)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Undoes ``to_bytes`` exactly.

        Raises:
            ValueError: these are other bytes.
        """
        try:
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            facts = json.loads(header["__metadata__"]["feature_statistics"])
            arrays = safetensors.numpy.load(content)
            source = FeatureSource(**facts["source"])
            return cls(facts["count"], arrays["mean"], arrays["scatter"], source)
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"these bytes are not feature statistics: {error}") from error


def check_same_source(first: FeatureSource, second: FeatureSource, which: str) -> None:
    """Refuse to compare features of different extractors.

    Raises:
        ValueError: says what differs.
    """
    if first != second:
        fields = asdict(first)
        differing = [name for name in fields if fields[name] != asdict(second)[name]]
        values = "; ".join(f"{n}: {fields[n]} and {asdict(second)[n]}" for n in differing)
        raise ValueError(f"{which} must hold the same features, but differ in {values}")
