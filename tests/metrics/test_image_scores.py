"""Scores of images together: each is that of its own module; the error of the Frechet distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dgray.metrics.feature_statistics import FeatureStatistics
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.frechet import frechet_distance
from dgray.metrics.image_scores import frechet_estimate, score_features
from dgray.metrics.kid import kernel_distance
from dgray.metrics.manifold import manifold_scores

SOURCE = FeatureSource("fd_test", 6, "none", "")


def normal(count: int, seed: int, scale: float = 1) -> Tensor:
    return scale * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def statistics(features: Tensor) -> FeatureStatistics:
    return FeatureStatistics.of(features.numpy(), SOURCE)


REFERENCE = normal(400, 0)


def test_scores_are_those_of_their_modules() -> None:
    generated = normal(300, 1, 1.2)
    names = ("fd", "kid", "precision", "recall", "density", "coverage")
    scores = score_features(
        generated,
        REFERENCE,
        SOURCE,
        metrics=("path_kl", *names),
        generator=np.random.default_rng(3),
    )
    assert set(scores) == set(names)
    one, two = statistics(generated).moments, statistics(REFERENCE).moments
    expected = frechet_distance(one.mean, one.covariance, two.mean, two.covariance)
    assert scores["fd"].value == pytest.approx(expected, rel=1e-10)
    assert scores["kid"] == kernel_distance(
        generated, REFERENCE, generator=np.random.default_rng(3)
    )
    manifold = manifold_scores(generated, REFERENCE)
    assert scores["recall"] == manifold.recall
    assert scores["density"] == manifold.density
    assert all(0 < estimate.se < 1 for estimate in scores.values())


def test_the_frechet_distances_error_is_its_spread_from_shards_or_images() -> None:
    reference = statistics(REFERENCE).moments
    values, errors = [], []
    for seed in range(100):
        shards = [statistics(part) for part in normal(200, 50 + seed, 1.3).split(20)]
        estimate = frechet_estimate(shards, reference)
        values.append(estimate.value)
        errors.append(estimate.se)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.25)


def test_more_shards_than_groups_are_grouped() -> None:
    generated = normal(230, 4)
    shards = [statistics(part) for part in generated.split(10)]
    left_out = []
    for group in range(10):
        kept = [part for index, part in enumerate(generated.split(10)) if index % 10 != group]
        remaining, data = statistics(torch.cat(kept)), statistics(REFERENCE)
        left_out.append(
            frechet_distance(remaining.mean, remaining.covariance, data.mean, data.covariance)
        )
    estimate = frechet_estimate(shards, statistics(REFERENCE).moments)
    assert estimate.se == pytest.approx(np.sqrt(9 * np.var(left_out)), rel=1e-8)


def test_one_shard_has_a_value_and_no_error() -> None:
    estimate = frechet_estimate([statistics(normal(50, 1))], statistics(REFERENCE).moments)
    assert estimate.value > 0
    assert np.isnan(estimate.se)


def test_a_reference_of_other_features_is_refused() -> None:
    other = replace(statistics(REFERENCE).moments, source=replace(SOURCE, resize="bilinear"))
    with pytest.raises(ValueError, match=r"generated images and reference.*resize: none and bil"):
        frechet_estimate([statistics(normal(50, 1))], other)
    unknown = replace(other, source=None)
    assert frechet_estimate([statistics(normal(50, 1))], unknown).value > 0
