"""Every score of generated images that features give, with errors and what they depend on.

Errors are over the generated samples, given the reference. The Frechet distance is biased upwards
by a term of order 1/n, which its error does not hold: compare at equal n, which stands beside it.
Knows features, not images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import numpy as np
from torch import Tensor

from dgray.metrics.estimate import Estimate
from dgray.metrics.feature_statistics import FeatureStatistics, Moments, check_same_source
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.frechet import frechet_distance
from dgray.metrics.jackknife import GROUPS, group_estimate
from dgray.metrics.kid import kernel_distance
from dgray.metrics.manifold import manifold_scores
from dgray.metrics.memorisation import image_memorisation

MANIFOLD = ("precision", "recall", "density", "coverage")
WANTED = ("frechet", "kid", *MANIFOLD)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one set of generated images.

    Attributes:
        source: the features; its name is that of ``frechet`` in a table (``fid_...``, ``fd_...``).
        num_generated: generated images.
        num_reference: reference images.
        frechet: Frechet distance.
        kid: kernel distance.
        precision: share of generated images that look like data.
        recall: share of data that generated images look like.
        density: how dense data is around generated images, about 1 if equal.
        coverage: share of data with a generated image nearby.
        memorisation: 0 to 1/2; None: no training features were given.

    What was not asked for is None.
    """

    source: FeatureSource
    num_generated: int
    num_reference: int
    frechet: Estimate | None
    kid: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    density: Estimate | None
    coverage: Estimate | None
    memorisation: Estimate | None

    def estimates(self) -> dict[str, Estimate]:
        """Scores by the name of their column; the Frechet distance under that of its features."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        named = {k: v for k, v in found.items() if isinstance(v, Estimate) and k != "frechet"}
        return named if self.frechet is None else {self.source.name: self.frechet, **named}


class ShardSum:
    """Statistics of generated images, merged from shards as they come: all, and in groups."""

    def __init__(self, *, has_error: bool) -> None:
        """``has_error``: whether groups are kept for it, ``GROUPS`` times the memory."""
        self._has_error = has_error
        self._num_shards = 0
        self._whole: FeatureStatistics | None = None
        self._groups: list[FeatureStatistics] = []

    def add(self, shard: FeatureStatistics) -> None:
        """The next shard, in their order.

        Raises:
            ValueError: it holds other features than those before.
        """
        self._whole = shard if self._whole is None else _merged([self._whole, shard])
        if self._has_error:
            group = self._num_shards % GROUPS
            if group == len(self._groups):
                self._groups.append(shard)
            else:
                self._groups[group] = _merged([self._groups[group], shard])
        self._num_shards += 1

    @property
    def whole(self) -> FeatureStatistics:
        """Of all shards, at least one."""
        assert self._whole is not None, "no shard was added"
        return self._whole

    def frechet(self, reference: Moments) -> Estimate:
        """The Frechet distance to a reference, its error from leaving out each group in turn.

        The error is nan for a single shard, or if no groups were kept.

        Raises:
            ValueError: the features differ, or there are fewer than two images.
        """
        own, groups = self.whole.source, self._groups
        if reference.source is not None:
            check_same_source(own, reference.source, "generated images and reference")
        kept = [groups[:index] + groups[index + 1 :] for index in range(len(groups))]
        usable = len(groups) > 1 and all(sum(g.count for g in some) > 1 for some in kept)
        # From all shards in their order: the value depends on the shards alone.
        value = _distance(self.whole, reference)
        return group_estimate(
            value, [_distance(_merged(some), reference) for some in kept] if usable else []
        )


def frechet_estimate(parts: Sequence[FeatureStatistics], reference: Moments) -> Estimate:
    """The Frechet distance to a reference, from statistics of generated images in parts.

    The error comes from leaving out parts g, g + 10, ... in turn, so parts should be of like size:
    shards, or every tenth image. It is nan for a single part.

    Args:
        parts: at least one, of the same features, two images or more together.
        reference: moments of reference images.

    Raises:
        ValueError: the features differ.
    """
    total = ShardSum(has_error=True)
    for part in parts:
        total.add(part)
    return total.frechet(reference)


def score_features(
    reference: Tensor,
    generated: Tensor,
    source: FeatureSource,
    *,
    generator: np.random.Generator,
    training: Tensor | None = None,
    wanted: Collection[str] = WANTED,
    moments: Moments | None = None,
    has_error: bool = True,
) -> ImageScores:
    """Scores from features in memory.

    Args:
        reference: features of data that no model was trained on, float32, shape (n, d), n >= 12.
        generated: features of generated images, float32, shape (m, d), m >= 12.
        source: which features these are.
        generator: draws KID's subsets.
        training: features of the training data, for memorisation, against ``reference``.
        wanted: of ``WANTED``.
        moments: of the reference, if they are known already.
        has_error: whether the Frechet distance gets a standard error, ten times its cost.

    Raises:
        ValueError: there are too few, shapes do not fit, or some are nan or infinite.
    """
    frechet = kid = None
    manifold = dict[str, Estimate]()
    if "frechet" in wanted:
        moments = moments or FeatureStatistics.of(reference.cpu().numpy(), source).moments
        frechet = frechet_estimate(in_groups(generated, source, has_error), moments)
    if "kid" in wanted:
        kid = kernel_distance(reference, generated, generator=generator)
    if set(MANIFOLD) & set(wanted):
        found = manifold_scores(reference, generated)
        manifold = {name: getattr(found, name) for name in MANIFOLD}
    return ImageScores(
        source=source,
        num_generated=len(generated),
        num_reference=len(reference),
        frechet=frechet,
        kid=kid,
        **{name: manifold.get(name) for name in MANIFOLD},
        memorisation=(
            None if training is None else image_memorisation(generated, training, reference)
        ),
    )


def in_groups(
    generated: Tensor, source: FeatureSource, has_error: bool
) -> list[FeatureStatistics]:
    """Statistics of every tenth image, for ``frechet_estimate``; of all if it needs no error."""
    array = generated.cpu().numpy()
    count = GROUPS if has_error else 1
    return [FeatureStatistics.of(array[index::count], source) for index in range(count)]


def _merged(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    return FeatureStatistics.merged(parts, expected=sum(part.count for part in parts))


def _distance(generated: FeatureStatistics, reference: Moments) -> float:
    return frechet_distance(
        generated.mean, generated.covariance, reference.mean, reference.covariance
    )
