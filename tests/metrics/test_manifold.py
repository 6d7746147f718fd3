"""Precision, recall, density and coverage: against prdc, torch-fidelity and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dgray.metrics import distances
from dgray.metrics.distances import distance_blocks
from dgray.metrics.estimate import GROUPS
from dgray.metrics.manifold import ManifoldScores, manifold_scores


def normal(count: int, dimension: int, seed: int, scale: float = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, dimension, generator=generator)


def values(scores: ManifoldScores) -> dict[str, float]:
    return {
        name: getattr(scores, name).value
        for name in ("precision", "recall", "density", "coverage")
    }


@pytest.mark.parametrize(("dimension", "k", "scale"), [(2, 5, 2.5), (64, 3, 1.15), (64, 5, 1.15)])
def test_scores_equal_those_of_prdc(
    dimension: int, k: int, scale: float, capsys: pytest.CaptureFixture[str]
) -> None:
    from prdc import compute_prdc

    x, y = normal(400, dimension, 0), normal(300, dimension, 1, scale) + 0.1
    expected = compute_prdc(x.double().numpy(), y.double().numpy(), k)
    capsys.readouterr()  # it prints
    scores = manifold_scores(y, x, precision_neighbours=k, density_neighbours=k)
    assert values(scores) == pytest.approx(expected, abs=1e-12)
    assert 0.02 < scores.precision.value < 0.98  # not trivially 0 or 1


def test_precision_and_recall_are_torch_fidelitys() -> None:
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    x, y = normal(500, 32, 0).double(), normal(400, 32, 1, 1.15).double()
    precision, recall = calculate_precision_recall_full(y, x, 3)
    scores = manifold_scores(y, x)
    assert scores.precision.value == pytest.approx(precision, abs=1e-6)  # theirs is float32
    assert scores.recall.value == pytest.approx(recall, abs=1e-6)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(90, 5, 0), normal(70, 5, 1, 1.3)
    whole = manifold_scores(y, x)
    monkeypatch.setattr(distances, "BLOCK", 7 * 90)
    assert manifold_scores(y, x) == whole


def test_scores_detect_lost_modes_and_excess_spread() -> None:
    data, half = normal(400, 2, 0), normal(800, 2, 1)
    half = half[half[:, 0] > 0][:300]
    lost = values(manifold_scores(half, data))
    assert lost["precision"] > 0.9
    assert lost["recall"] < 0.75
    assert lost["coverage"] < 0.75
    wide = values(manifold_scores(normal(300, 2, 2, 3), data))
    assert wide["precision"] < 0.7
    assert wide["density"] < 0.7
    equal = values(manifold_scores(normal(400, 2, 3), data))
    assert equal["density"] == pytest.approx(1, abs=0.15)
    assert min(equal["precision"], equal["recall"], equal["coverage"]) > 0.85


def test_copies_of_the_data_are_on_its_manifold() -> None:
    data = normal(100, 3, 0)
    scores = values(manifold_scores(data, data))
    assert scores["precision"] == scores["recall"] == scores["coverage"] == 1


def test_leaving_out_groups_is_leaving_out_samples() -> None:
    """The errors of recall and coverage, from the definition of the jackknife."""
    x, y = normal(80, 3, 0), normal(73, 3, 1, 1.2)
    left_out = []
    for group in range(GROUPS):
        kept = torch.arange(len(y)) % GROUPS != group
        left_out.append(values(manifold_scores(y[kept], x)))
    scores = manifold_scores(y, x)
    for name in ("recall", "coverage"):
        those = np.array([one[name] for one in left_out])
        expected = np.sqrt((GROUPS - 1) * those.var())
        assert getattr(scores, name).se == pytest.approx(expected, rel=1e-12)


def test_errors_are_the_spread_over_samples() -> None:
    """Recall's is conservative, like every jackknife of nearest neighbours."""
    reference = normal(200, 6, 0)
    runs = [manifold_scores(normal(150, 6, 10 + seed, 1.2), reference) for seed in range(100)]
    for name, low, high in (
        ("precision", 0.8, 1.25),
        ("recall", 0.8, 2.0),
        ("density", 0.8, 1.25),
        ("coverage", 0.8, 2.0),
    ):
        spread = np.std([getattr(run, name).value for run in runs], ddof=1)
        error = np.mean([getattr(run, name).se for run in runs])
        assert low < error / spread < high, name


@pytest.mark.usefixtures("unchecked_shapes")
def test_too_few_or_different_features_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 12 samples and 12 references, but got 11"):
        manifold_scores(normal(11, 3, 1), normal(50, 3, 0))
    with pytest.raises(ValueError, match=r"\(50, 3\) and \(50, 2\)"):
        manifold_scores(normal(50, 2, 1), normal(50, 3, 0))


def test_distances_of_bytes_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3072), generator=generator)
    exact = ((pixels[:, None] - pixels[None]) ** 2).sum(2)
    squared_distances = torch.cat([squared for _, squared in distance_blocks(pixels, pixels)])
    assert torch.equal(squared_distances, exact.double())
