"""Exact case 6: the Frechet distance of Gaussians, and statistics that merge."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from dgray.metrics.frechet import FeatureStats, frechet_distance

RNG = np.random.default_rng(0)


def covariance(dimension: int, rank: int | None = None) -> np.ndarray:
    factor = RNG.standard_normal((dimension, rank or 2 * dimension))
    return factor @ factor.T / factor.shape[1]


def test_commuting_gaussians_have_the_closed_form() -> None:
    s1, s2 = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 9.0])
    mu = np.array([1.0, -2.0, 0.5])
    expected = (mu**2).sum() + ((np.sqrt(s1) - np.sqrt(s2)) ** 2).sum()
    found = frechet_distance(mu, np.diag(s1), np.zeros(3), np.diag(s2))
    assert found == pytest.approx(expected, rel=1e-12)


def test_general_gaussians_agree_with_scipys_matrix_root() -> None:
    s1, s2, mu = covariance(20), covariance(20), RNG.standard_normal(20)
    root = linalg.fractional_matrix_power(s1 @ s2, 0.5).real
    expected = mu @ mu + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(mu, s1, np.zeros(20), s2) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("rank", [None, 5])
def test_a_set_with_itself_is_at_distance_zero(rank: int | None) -> None:
    s, mu = covariance(30, rank), RNG.standard_normal(30)
    assert frechet_distance(mu, s, mu, s) == pytest.approx(0, abs=1e-6)


def test_merged_shards_are_the_whole() -> None:
    features = RNG.standard_normal((1000, 12)) + 0.5
    whole = FeatureStats.of(features)
    merged = FeatureStats.of(features[:17]).merge(FeatureStats.of(features[17:600]))
    merged = merged.merge(FeatureStats.of(features[600:]))
    assert merged.count == 1000
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(features.T), atol=1e-10)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((0, 3)), "n > 0"),
        (np.zeros(3), r"shape \(n, d\)"),
        (np.array([[np.nan]]), "finite"),
    ],
)
def test_features_that_cannot_be_are_refused(features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureStats.of(features)


def test_one_vector_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        _ = FeatureStats.of(np.ones((1, 2))).covariance
