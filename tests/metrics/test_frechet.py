"""Fréchet distance of Gaussians: closed forms, agreement with clean-fid, invalid statistics."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import scipy.linalg
from scipy import linalg

from dgray.metrics.frechet import frechet_distance

RNG = np.random.default_rng(0)


def covariance(dimension: int, rank: int | None = None) -> np.ndarray:
    factor = RNG.standard_normal((dimension, rank or 2 * dimension))
    return factor @ factor.T / factor.shape[1]


def moments(count: int, dimension: int, scale: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of correlated features of different spreads, like a network's."""
    mixing = np.eye(dimension) + 0.3 * RNG.standard_normal((dimension, dimension)) / dimension
    spread = scale * np.geomspace(1, 0.05, dimension)
    features = RNG.standard_normal((count, dimension)) @ mixing * spread + 0.2 * scale
    return features.mean(0), np.cov(features, rowvar=False)


def cleanfid_distance(*args: np.ndarray) -> float:
    from cleanfid.fid import frechet_distance as reference

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its sqrtm(disp=False)
        return float(reference(*args))


def test_commuting_gaussians_have_the_closed_form() -> None:
    s1, s2 = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 9.0])
    mu = np.array([1.0, -2.0, 0.5])
    expected = (mu**2).sum() + ((np.sqrt(s1) - np.sqrt(s2)) ** 2).sum()
    distance = frechet_distance(mu, np.diag(s1), np.zeros(3), np.diag(s2))
    assert distance == pytest.approx(expected, rel=1e-12)


def test_general_gaussians_agree_with_scipys_matrix_root() -> None:
    s1, s2, mu = covariance(20), covariance(20), RNG.standard_normal(20)
    root = linalg.fractional_matrix_power(s1 @ s2, 0.5).real
    expected = mu @ mu + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(mu, s1, np.zeros(20), s2) == pytest.approx(expected, rel=1e-8)


def test_rank_one_gaussians_have_the_closed_form() -> None:
    u, v = RNG.standard_normal((2, 50))
    expected = u @ u + v @ v - 2 * abs(u @ v)  # the root of u u^T v v^T has the trace |u.v|
    distance = frechet_distance(np.zeros(50), np.outer(u, u), np.zeros(50), np.outer(v, v))
    assert distance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dimension", [2, 7, 64, 256])
@pytest.mark.parametrize("counts", [(5.0, 3.0), (0.5, 4.0), (0.4, 0.6)])  # in dimensions
def test_agrees_with_cleanfid(dimension: int, counts: tuple[float, float]) -> None:
    one, two = (
        moments(max(3, round(share * dimension)), dimension, scale)
        for share, scale in zip(counts, (1.0, 1.3), strict=True)
    )
    expected = cleanfid_distance(*one, *two)
    assert frechet_distance(*one, *two) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*two, *one) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1.001])
def test_fewer_vectors_than_dimensions_give_the_exact_value(scale: float) -> None:
    """For centred features X, Y the trace of the root is the nuclear norm of the small X Y^T."""
    x, y = (spread * RNG.random((6, 500)) for spread in (1.0, scale))
    one, two = x - x.mean(0), y - y.mean(0)
    gap = x.mean(0) - y.mean(0)
    overlap = np.linalg.svd(one @ two.T / 5, compute_uv=False).sum()
    expected = gap @ gap + (one**2).sum() / 5 + (two**2).sum() / 5 - 2 * overlap
    moments = x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)
    assert frechet_distance(*moments) == pytest.approx(expected, rel=1e-11)


@pytest.mark.long
def test_agrees_with_cleanfid_in_the_2048_dimensions_of_inception() -> None:
    one, two = moments(300, 2048), moments(300, 2048, 1.1)
    expected = cleanfid_distance(*one, *two)
    assert frechet_distance(*one, *two) == pytest.approx(expected, rel=1e-6)


def test_scipys_matrix_root_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy 1.18 removed its ``disp`` argument, which breaks the distance of clean-fid."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("sqrtm was called")

    monkeypatch.setattr(scipy.linalg, "sqrtm", forbidden)
    monkeypatch.setattr(sys.modules["scipy.linalg._matfuncs"], "sqrtm", forbidden)
    assert frechet_distance(*moments(50, 20), *moments(50, 20)) > 0


@pytest.mark.parametrize("rank", [None, 5, 1])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_distance_of_a_set_to_itself_is_zero_and_not_negative(
    rank: int | None, scale: float
) -> None:
    s, mu = scale**2 * covariance(30, rank), scale * RNG.standard_normal(30)
    assert 0 <= frechet_distance(mu, s, mu, s) <= 1e-12 * np.trace(s)
    assert frechet_distance(mu, s, mu, 0 * s) == pytest.approx(np.trace(s), rel=1e-12)


def test_the_distance_scales_with_the_square_of_the_unit() -> None:
    (m1, s1), (m2, s2) = moments(40, 30), moments(20, 30)
    one = frechet_distance(m1, s1, m2, s2)
    many = frechet_distance(1e3 * m1, 1e6 * s1, 1e3 * m2, 1e6 * s2)
    assert many == pytest.approx(1e6 * one, rel=1e-9)


@pytest.mark.parametrize("count", [10, 200])
def test_statistics_rounded_to_float32_are_accepted(count: int) -> None:
    one, two = moments(count, 60), moments(count, 60, 1.2)
    rounded = [np.float32(values) for values in (*one, *two)]
    assert frechet_distance(*rounded) == pytest.approx(frechet_distance(*one, *two), rel=1e-3)


def change(values: np.ndarray, index: tuple[int, ...], to: float) -> np.ndarray:
    values = values.copy()
    values[index] = to
    return values


MU, EYE = np.zeros(3), np.eye(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((change(MU, (1,), np.nan), EYE, MU, EYE), "first Gaussian's mean must be finite, but 1"),
        ((MU, EYE, MU, EYE * np.nan), "second Gaussian's covariance.* 9 of 9 .*at least 2"),
        ((MU, EYE, MU, change(EYE, (0, 2), np.inf)), "must be finite"),
        ((MU, EYE, np.zeros(2), np.eye(2)), "same dimension, but got 3 and 2"),
        ((MU, np.eye(2), MU, EYE), r"shape \(d, d\), d > 0, but got \(3,\) and \(2, 2\)"),
        ((MU[None], EYE, MU, EYE), r"mean of shape \(d,\)"),
        ((np.zeros(0), np.zeros((0, 0)), MU, EYE), "d > 0"),
        ((MU, change(EYE, (0, 2), 0.5), MU, EYE), "must be symmetric.* by 0.5"),
        ((MU, EYE, MU, np.diag([1.0, 1.0, -0.1])), "semidefinite.* from -0.1 to 1"),
        ((MU, EYE, MU, change(change(EYE, (0, 1), 2.0), (1, 0), 2.0)), "from -1 to 3"),
        ((MU, EYE, MU, np.fliplr(EYE) - np.diag([0, 1.0, 0])), "semidefinite"),
    ],
)
def test_invalid_means_and_covariances_are_refused(
    arguments: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(*arguments)


def test_a_single_feature_vector_has_no_distance() -> None:
    with pytest.warns(RuntimeWarning):
        of_one = np.cov(np.ones((1, 3)), rowvar=False)
    with pytest.raises(ValueError, match="a covariance needs at least 2"):
        frechet_distance(MU, of_one, MU, EYE)
