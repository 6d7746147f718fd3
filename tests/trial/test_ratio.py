"""Estimates of the KL of the base in a trial: closed forms, and which rows have them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dgray.catalogue import METRICS
from dgray.record.row import Row
from tests.trial.test_run import plan_of, results

STUDY = """
name: ratio
replicates: 2
diffusion: {{sigma_min: 0.05, sigma_max: 20, prior_std: 20.05}}
data: {{kind: mixture, {data}, num_real: 40, num_validation: 40, num_held_out: {size}}}
base: {{kind: wrong_mixture, correlation_scale: 0, num_generated: 40}}
discriminator: {{width: 6, depth: 1}}
fit: {{objective: {objective}, epochs: 1, oscillation: {{amplitude: 0.3, frequency: 2}}}}
correction: {{kind: {correction}}}
evaluate:
  guidance_weight: [0.5, 1]
  guidance_interval: [[0.1, 1]]
  metrics: [path_kl, ratio_kl]
  num_steps: 2
  num_samples: 20
  sigmas_per_bin: 2
"""
PAIR = "components: [{mean: [0, 0], covariance: [[1, 0.8], [0.8, 1]]}]"
TWENTY, RHO = "name: correlated20", math.sqrt(1 - math.exp(-1))
NAMES = [column.name for column in METRICS["ratio_kl"].columns]
COLUMNS = [f"{name}{end}" for name in NAMES for end in ("", "_se")]


def rows_of(
    folder: Path, data: str, objective: str, correction: str = "guidance"
) -> dict[str, list[Row]]:
    size = 4000 if data == PAIR else 1000
    text = STUDY.format(data=data, objective=objective, correction=correction, size=size)
    trials = plan_of(folder, text=text)
    return {t.objective: [row for result in results(t) for row in result.rows] for t in trials}


def gaussian_kl(pairs: int, rho: float, sigma: float) -> float:
    """Return the KL of noised pairs of correlation rho to independent ones, in nats."""
    return -pairs / 2 * math.log(1 - (rho / (1 + sigma**2)) ** 2)


@pytest.mark.parametrize(("data", "pairs", "rho"), [(PAIR, 1, 0.8), (TWENTY, 10, RHO)])
def test_the_exact_log_ratio_gives_the_closed_form(
    data: str, pairs: int, rho: float, tmp_path: Path
) -> None:
    rows = rows_of(tmp_path, data, "oracle")
    row, base = rows["oracle"][0], rows["base"][0]
    expected = gaussian_kl(pairs, rho, 0.05)
    along_path = expected - gaussian_kl(pairs, rho, 20)
    means_of_powers = ("ratio_kl_dv", "ratio_kl_nwj")  # need exp(KL) samples of the base
    for name in (name for name in NAMES if pairs == 1 or name not in means_of_powers):
        exact = along_path if name in ("ratio_kl_path", "ratio_kl_denoising") else expected
        assert 0 < row[f"{name}_se"] < 0.1 * expected
        assert abs(row[name] - exact) < 4 * row[f"{name}_se"], name
    assert row["ratio_kl"] == row["ratio_kl_exact"] == base["ratio_kl_exact"]
    assert [base[name] for name in NAMES if name != "ratio_kl_exact"] == [None] * 5


def test_a_wrong_logit_gives_the_values_of_a_few_lines(tmp_path: Path) -> None:
    row = rows_of(tmp_path, PAIR, "oscillating")["oscillating"][0]
    generator = np.random.default_rng(0)

    def log_ratio(x: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own, rho = 1 + sigma**2, 0.8
        root = own**2 - rho**2
        inverse = np.stack([own / root - 1 / own, -rho / root], -1)
        gradient = -np.stack(
            [inverse[:, 0] * x[:, i] + inverse[:, 1] * x[:, 1 - i] for i in (0, 1)], -1
        )
        value = 0.5 * (x * gradient).sum(1) - 0.5 * np.log(root / own**2)
        gradient[:, 0] += 0.3 * 2 * np.cos(2 * x[:, 0])
        return value + 0.3 * np.sin(2 * x[:, 0]), gradient

    def pair(rho: float, sigma: np.ndarray) -> np.ndarray:
        noise = generator.standard_normal((len(sigma), 2))
        x = np.stack([noise[:, 0], rho * noise[:, 0] + math.sqrt(1 - rho**2) * noise[:, 1]], -1)
        return x + sigma[:, None] * generator.standard_normal(x.shape)

    lowest = np.full(200_000, 0.05)
    real, base = log_ratio(pair(0.8, lowest), lowest)[0], log_ratio(pair(0, lowest), lowest)[0]
    log_length = math.log(20 / 0.05)
    sigma = 0.05 * np.exp(log_length * generator.random(200_000))
    x = pair(0.8, sigma)
    wave = 0.6 * sigma * np.cos(2 * x[:, 0])
    path = log_length * (sigma[:, None] ** 2 * log_ratio(x, sigma)[1] ** 2).sum(1)
    lost = log_length * (wave**2).mean()
    expected = {
        "ratio_kl": real.mean(),
        "ratio_kl_dv": real.mean() - np.log(np.exp(base).mean()),
        "ratio_kl_nwj": real.mean() - np.exp(base).mean() + 1,
        "ratio_kl_path": path.mean(),
        "ratio_kl_denoising": gaussian_kl(1, 0.8, 0.05) - gaussian_kl(1, 0.8, 20) - lost,
    }
    for name, value in expected.items():
        assert abs(row[name] - value) < 4 * row[f"{name}_se"] + 0.02, name


def test_all_weights_of_a_trained_discriminator_have_the_same_estimates(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, PAIR, "[cross_entropy, kl]")
    for name in ("cross_entropy", "kl"):
        of_replicate = [[row for row in rows[name] if row["replicate"] == r] for r in (0, 1)]
        for group in of_replicate:
            assert len(group) == 2
            assert all(group[0][column] == group[1][column] for column in COLUMNS)
            assert all(isinstance(group[0][column], float) for column in COLUMNS)
        assert of_replicate[0][0]["ratio_kl_path"] != of_replicate[1][0]["ratio_kl_path"]


def test_a_selection_has_estimates_and_a_field_has_none(tmp_path: Path) -> None:
    (selected,) = {
        tuple(r[c] for c in NAMES)
        for r in rows_of(tmp_path, PAIR, "oracle", "rejection")["rejection-oracle"]
    }
    guided = rows_of(tmp_path, PAIR, "oracle")["oracle"][0]
    assert selected == tuple(guided[name] for name in NAMES)
    field = rows_of(tmp_path, PAIR, "oracle", "residual")["residual"]
    assert all(row[name] is None for row in field for name in NAMES)
