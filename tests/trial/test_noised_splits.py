"""The quadrature of the path KL on the held-out split: unbiased, and its error is reported."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dgray.config.reading.load import load_study
from dgray.correction.weight import ConstantWeight
from dgray.metrics.estimate import Estimate
from dgray.metrics.path import path_divergence, variances
from dgray.plan.plan import make_plan
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem
from dgray.trial.noised_splits import EvaluationSet, build_evaluation_set

STUDY = """
name: pair
seed: {seed}
diffusion: {{sigma_min: 1e-4, sigma_max: 80}}
data:
  kind: mixture
  components: {{means: [[{mean}]], stds: [{std}]}}
  num_held_out: {count}
  num_validation: 10
base:
  kind: wrong_mixture
  components: {{means: [[0]], stds: [1]}}
  num_generated: 10
evaluate: {{metrics: [path_kl], sigmas_per_bin: {per_bin}}}
"""


def evaluation_set(folder: Path, **values: object) -> EvaluationSet:
    path = folder / "pair.yaml"
    path.write_text(STUDY.format(**{"mean": 0, "std": 1e-3, "seed": 0, "count": 500} | values))
    base = next(t for t in make_plan(load_study(path)).trials if t.objective == "base")
    return build_evaluation_set(build_problem(base.config, Shared({}), torch.device("cpu")))


def path_kl(sets: EvaluationSet) -> Estimate:
    moments = sets.path_moments(torch.zeros_like(sets.held_out.real.x))
    level = path_divergence(moments, ConstantWeight(0.0), sets.span).level
    assert level is not None
    return level.path_kl


@pytest.mark.parametrize(("mean", "std", "truth"), [(0, 1e-3, 6.403), (4, 1, 8.0)])
def test_path_kl_is_unbiased_and_its_error_is_that_over_seeds(
    tmp_path: Path, mean: float, std: float, truth: float
) -> None:
    estimates = [
        path_kl(evaluation_set(tmp_path, mean=mean, std=std, seed=seed, per_bin=4))
        for seed in range(20)
    ]
    values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
    reported = torch.tensor([e.se for e in estimates], dtype=torch.float64).mean()
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(20)
    assert float(values.std() / reported) == pytest.approx(1, abs=0.4)


def test_automatic_levels_are_finer_where_the_noise_dominates(tmp_path: Path) -> None:
    coarse, fine = (evaluation_set(tmp_path, per_bin=n) for n in (4, "auto"))
    per_bin = fine.held_out.real.sigma.shape[1] // 12
    assert coarse.held_out.real.sigma.shape == (500, 48)
    assert per_bin in {16, 32, 64}
    assert fine.validation.real.sigma.shape == (10, 48)
    assert path_kl(fine).se < 0.65 * path_kl(coarse).se
    assert abs(path_kl(fine).value - 6.403) < 3 * path_kl(fine).se


def test_automatic_levels_are_the_least_where_points_dominate(tmp_path: Path) -> None:
    levels = evaluation_set(tmp_path, mean=4, std=1.5, per_bin="auto")
    assert levels.held_out.real.sigma.shape == (500, 48)


def test_parts_of_the_variance() -> None:
    """Means of S = 8 levels of noise of variance 4 around points of variance 9."""
    generator = torch.Generator().manual_seed(0)
    points = 3 * torch.randn(20_000, 1, generator=generator)
    by_level, by_point = variances(points + 2 * torch.randn(20_000, 8, generator=generator))
    assert by_level == pytest.approx(4 / 8, rel=0.1)
    assert by_point == pytest.approx(9, rel=0.05)
