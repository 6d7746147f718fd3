"""Scores of generated images in feature space, with standard errors.

Errors are over the generated samples, for a given reference. The Fréchet distance is biased
upwards by a term of order 1/n, which its error does not include: compare at equal n.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dgray.catalogue import METRICS
from dgray.metrics.estimate import GROUPS, Estimate, group_estimate
from dgray.metrics.feature_statistics import FeatureStatistics, Moments, check_same_source
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.frechet import frechet_distance
from dgray.metrics.kid import kernel_distance
from dgray.metrics.manifold import ManifoldScores, manifold_scores

# Two names of one distance: fid of Inception-v3 features, fd of others.
_FRECHET = {metric.name for metric in METRICS.built_in if metric.needs_moments_only}
_MANIFOLD = tuple(field.name for field in fields(ManifoldScores))


class ShardSum:
    """Running merge of the statistics of shards of generated images, of all and by group."""

    def __init__(self, *, has_error: bool) -> None:
        """``has_error``: keep groups for the standard error, at ``GROUPS`` times the memory."""
        self._has_error = has_error
        self._num_shards = 0
        self._whole: FeatureStatistics | None = None
        self._groups: list[FeatureStatistics] = []

    def add(self, shard: FeatureStatistics) -> None:
        """Add the next shard; shards come in their order.

        Raises:
            FeaturesError: if its features differ from those of earlier shards.
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
        """Statistics of all shards, of which there must be one."""
        assert self._whole is not None, "no shard was added"
        return self._whole

    def frechet(self, reference: Moments) -> Estimate:
        """Return the Fréchet distance to a reference, with a jackknife error over the groups.

        The error is nan for a single shard, or without groups.

        Raises:
            FeaturesError: if the features differ, or there are fewer than two images.
        """
        own, groups = self.whole.source, self._groups
        if reference.source is not None:
            check_same_source(own, reference.source, "generated images and reference")
        kept = [groups[:index] + groups[index + 1 :] for index in range(len(groups))]
        has_error = len(groups) > 1 and all(sum(g.count for g in part) > 1 for part in kept)
        # From all shards in their order, so that the value does not depend on the groups.
        value = _distance(self.whole, reference)
        return group_estimate(
            value, [_distance(_merged(part), reference) for part in kept] if has_error else []
        )


def frechet_estimate(parts: Sequence[FeatureStatistics], reference: Moments) -> Estimate:
    """Return the Fréchet distance to a reference, from statistics of generated images in parts.

    The jackknife error leaves out parts g, g + 10, ... in turn, so parts should be of similar
    size. It is nan for a single part.

    Args:
        parts: statistics of the same features, of at least two images in total.
        reference: moments of reference images.

    Raises:
        FeaturesError: if the features differ.
    """
    total = ShardSum(has_error=True)
    for part in parts:
        total.add(part)
    return total.frechet(reference)


def score_features(
    generated: Float[Tensor, "m F"],
    reference: Float[Tensor, "n F"],
    source: FeatureSource,
    *,
    metrics: Collection[str],
    generator: np.random.Generator,
    moments: Moments | None = None,
    has_error: bool = True,
) -> dict[str, Estimate]:
    """Return scores of features in memory, by the name of the metric.

    Args:
        generated: features of generated images, m >= 12.
        reference: features of images of the data, n >= 12.
        source: the features.
        metrics: names of metrics; those that are not computed here are ignored.
        generator: draws the subsets of KID.
        moments: moments of the reference, if they have been computed.
        has_error: whether the Fréchet distance has a standard error, at ten times its cost.

    Raises:
        MetricError: if there are too few features, or shapes disagree.
        FeaturesError: if some features are nan or infinite.
    """
    scores: dict[str, Estimate] = {}
    for name in _FRECHET & set(metrics):
        moments = moments or FeatureStatistics.of(reference.cpu().numpy(), source).moments
        scores[name] = frechet_estimate(in_groups(generated, source, has_error), moments)
    if "kid" in metrics:
        scores["kid"] = kernel_distance(generated, reference, generator=generator)
    if set(_MANIFOLD) & set(metrics):
        manifold = manifold_scores(generated, reference)
        scores |= {name: getattr(manifold, name) for name in _MANIFOLD if name in metrics}
    return scores


def in_groups(
    generated: Tensor, source: FeatureSource, has_error: bool
) -> list[FeatureStatistics]:
    """Return statistics of every tenth image, or of all in one part if no error is needed."""
    array = generated.cpu().numpy()
    count = GROUPS if has_error else 1
    return [FeatureStatistics.of(array[index::count], source) for index in range(count)]


def _merged(parts: Sequence[FeatureStatistics]) -> FeatureStatistics:
    return FeatureStatistics.merged(parts, expected=sum(part.count for part in parts))


def _distance(generated: FeatureStatistics, reference: Moments) -> float:
    return frechet_distance(
        generated.mean, generated.covariance, reference.mean, reference.covariance
    )
