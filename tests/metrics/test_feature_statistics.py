"""Statistics of features: agreement with NumPy for all shards, and their metadata."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dgray.metrics.feature_statistics import FeatureStatistics, Moments
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.frechet import frechet_distance

RNG = np.random.default_rng(0)
SOURCE = FeatureSource("fd_test", 12, "none", "ab" * 32)
FEATURES = (RNG.standard_normal((1000, 12)) @ RNG.standard_normal((12, 12)) + 3).astype(np.float32)


def shards(cuts: list[int]) -> list[FeatureStatistics]:
    return [FeatureStatistics.of(part, SOURCE) for part in np.split(FEATURES, cuts)]


def test_mean_and_covariance_are_numpys_in_float64() -> None:
    computed = FeatureStatistics.of(FEATURES, SOURCE)
    exact = FEATURES.astype(np.float64)
    np.testing.assert_allclose(computed.mean, exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(computed.covariance, np.cov(exact, rowvar=False), rtol=1e-11)


@pytest.mark.parametrize("cuts", [[500], [17, 600], [1, 2, 999], list(range(10, 1000, 10))])
def test_merged_shards_are_the_whole(cuts: list[int]) -> None:
    whole, merged = (
        FeatureStatistics.of(FEATURES, SOURCE),
        FeatureStatistics.merged(shards(cuts), expected=1000),
    )
    assert merged.count == 1000
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-11, atol=1e-11)


def test_a_mean_far_above_the_spread_costs_few_digits() -> None:
    """Only digits of the mean's rounding are lost; sums of f f^T would lose all digits."""
    source = replace(SOURCE, dimension=2)
    features = 1e8 + np.arange(8.0).reshape(4, 2) ** 2
    parts = [FeatureStatistics.of(part, source) for part in (features[:1], features[1:])]
    covariance = FeatureStatistics.merged(parts, expected=4).covariance
    np.testing.assert_allclose(covariance, np.cov(features - 1e8, rowvar=False), rtol=1e-8)


def test_missing_and_repeated_shards_are_refused() -> None:
    parts = shards([300, 600])
    for wrong in (parts[:2], [*parts, parts[0]], []):
        with pytest.raises(ValueError, match="must hold 1000 images in total"):
            FeatureStatistics.merged(wrong, expected=1000)


def test_shards_of_different_features_are_refused() -> None:
    one, two = shards([500])
    other = replace(two, source=replace(SOURCE, sha256="cd" * 32))
    with pytest.raises(ValueError, match=r"shards 0 and 1 .*differ in sha256: abab.* and cdcd"):
        FeatureStatistics.merged([one, other], expected=1000)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((0, 12)), "n > 0"),
        (np.zeros(12), r"shape \(n, 12\)"),
        (np.zeros((3, 11)), r"but got \(3, 11\)"),
        (np.full((1, 12), np.nan), "finite"),
    ],
)
def test_invalid_features_are_refused(features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureStatistics.of(features, SOURCE)


def test_one_vector_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 feature vectors, but got 1"):
        _ = FeatureStatistics.of(FEATURES[:1], SOURCE).covariance


THREADS = """
import sys
import numpy as np
from dgray.metrics.features.extractor import FeatureSource
from dgray.metrics.feature_statistics import FeatureStatistics
source = FeatureSource("fd_test", 700, "none", "")
rng = np.random.default_rng(0)
parts = [rng.standard_normal((n, 700), dtype=np.float32) for n in (128, 128, 57)]
parts = [FeatureStatistics.of(part, source) for part in parts]
merged = FeatureStatistics.merged(parts, expected=313)
sys.stdout.buffer.write(merged.mean.tobytes() + merged.scatter.tobytes())
"""


def test_workers_with_other_numbers_of_threads_give_the_same_bytes() -> None:
    contents = set()
    for threads in ("1", "2"):
        environment = {"OMP_NUM_THREADS": threads, "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", THREADS]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        contents.add(done.stdout)
    assert len(contents) == 1


def test_edms_file_is_read() -> None:
    file = io.BytesIO()
    np.savez(file, mu=FEATURES.mean(0), sigma=np.cov(FEATURES, rowvar=False), extra=np.ones(3))
    moments = Moments.from_npz(file.getvalue())
    assert (moments.count, moments.source) == (None, None)
    own = FeatureStatistics.of(FEATURES, SOURCE).moments
    assert (own.count, own.source) == (1000, SOURCE)
    distance = frechet_distance(moments.mean, moments.covariance, own.mean, own.covariance)
    assert distance == pytest.approx(0, abs=1e-5)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "arrays mu and sigma"),
        (npz(mu=np.zeros(3)), "sigma"),
        (npz(mu=np.zeros(3), sigma=np.eye(2)), r"\(3,\) and \(2, 2\)"),
        (npz(mu=np.array([{}]), sigma=np.eye(1)), "allow_pickle"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Moments.from_npz(content)
