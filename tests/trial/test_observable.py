"""Observable path KL in a trial: of gradients, free fields, selected laws and classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from typing_extensions import override

from dgray.config.reading.load import load_study
from dgray.correction.linear import LinearCorrection, scaled_change
from dgray.diffusion.shapes import Probes, Scalars, Vectors
from dgray.errors import DataError, StudyError
from dgray.plan.plan import Setting, make_plan
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem
from dgray.problem.problem import Problem
from dgray.trial.noised_splits import EvaluationSet, build_evaluation_set
from dgray.trial.observable import build_error_grids
from dgray.trial.score_path import score_paths
from tests.trial.test_run import plan_of, results

STUDY = """
name: tiny
replicates: 1
diffusion: {sigma_min: 0.05, sigma_max: 10}
data: {kind: mixture, name: ring8, num_real: 30, num_validation: 60, num_held_out: 60}
base: {kind: wrong_mixture, std_scale: 1.4, num_generated: 40}
discriminator: {width: 6, depth: 1}
correction: {max_ratio: 2}
fit: {objective: kl, epochs: 40, checkpoints: [40], learning_rate: 0.02}
evaluate:
  guidance_weight: [0.5, 1, calibrated]
  sampler: [ode]
  num_steps: 4
  num_bins: 4
  sigmas_per_bin: 2
  metrics: [path_kl, observable_path_kl]
  num_samples: 20
"""
GAUSSIAN = """
name: gaussian
diffusion: {sigma_min: 0.05, sigma_max: 10}
data:
  kind: mixture
  components: {means: [[0.0, 0.0]], stds: [0.8]}
  num_held_out: 50
base: {kind: wrong_mixture, std_scale: 1.0, num_generated: 40}
evaluate: {guidance_weight: [1], metrics: [path_kl, observable_path_kl], num_bins: 6}
"""


@dataclass(frozen=True)
class _Linear(LinearCorrection):
    """Change M x / (s^2 + sigma^2) of the score, s = 0.8."""

    matrix: torch.Tensor

    @override
    def score_change(self, x: Vectors, sigma: Scalars) -> Vectors:
        return x @ self.matrix.T / (0.64 + sigma[..., None] ** 2)

    @override
    def score_change_and_divergence(
        self, x: Vectors, sigma: Scalars, probes: Probes | None = None
    ) -> tuple[Vectors, Scalars]:
        trace = self.matrix.trace()
        return self.score_change(x, sigma), trace / (0.64 + sigma**2)


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    return build_evaluation_set(_problem(tmp_path_factory.mktemp("study"), GAUSSIAN))


def _problem(folder: Path, text: str) -> Problem:
    (folder / "study.yaml").write_text(text)
    trial = make_plan(load_study(folder / "study.yaml")).trials[0]
    return build_problem(trial.config, Shared({}), torch.device("cpu"))


@pytest.mark.parametrize(
    ("symmetric", "antisymmetric"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7), (0.3, -0.7)]
)
def test_linear_errors_of_a_gaussian(
    gaussian: EvaluationSet, symmetric: float, antisymmetric: float
) -> None:
    # e = M x / v, v = s^2 + sigma^2: of E|sigma e|^2 = sigma^2 tr(M M^T) / v the part of the
    # antisymmetric half of M, which is orthogonal to the covariance v I, has no effect.
    matrix = torch.tensor([[symmetric, antisymmetric], [-antisymmetric, 0.0]]).double()
    change = _Linear(matrix)
    setting = Setting(
        guidance_weight=1.0, sampler="ode", num_steps=4, interval=None, guided_stage="both"
    )
    scaled = scaled_change(change, gaussian.held_out)
    row = score_paths(change, gaussian, [setting], scaled)[0][setting]
    low, high = gaussian.problem.span
    integral = 0.5 * torch.tensor((0.64 + high**2) / (0.64 + low**2)).log()
    hidden = row["path_kl"] - row["observable_path_kl"]
    assert hidden == pytest.approx(2 * antisymmetric**2 * float(integral), rel=2e-3, abs=1e-9)
    changed = row["path_kl_change"] - row["observable_path_kl_change"]
    assert changed == pytest.approx(hidden, abs=1e-9)
    assert row["observable_path_kl_se"] == row["path_kl_se"]
    assert row["observable_path_kl_grid_error"] < 1e-3 * max(hidden, 1e-6)


@pytest.mark.parametrize("kind", ["guidance", "residual", "rejection"])
def test_only_a_free_field_has_a_part_without_effect(kind: str, tmp_path: Path) -> None:
    base, *trials = plan_of(tmp_path, f"correction.kind={kind}", text=STUDY)
    hidden = []
    for trial in (base, *trials) if kind == "residual" else trials:
        for row in results(trial)[0].rows:
            part = row["path_kl"] - row["observable_path_kl"]
            change = row["path_kl_change"] - row["observable_path_kl_change"]
            assert abs(part - change) < 5e-5  # the base has the error of a gradient
            assert row["observable_path_kl_grid_error"] < 5e-5
            if not row.is_calibrated:  # the error of the fit is that of another number
                assert row["observable_path_kl_se"] == row["path_kl_se"]
            hidden.append((row.guidance_weight, part))
    if kind == "residual":
        by_weight = dict(hidden)
        of_half, of_whole = (by_weight[weight] - by_weight[0.0] for weight in (0.5, 1.0))
        assert of_whole > 1e-4
        assert of_half == pytest.approx(of_whole / 4, rel=0.02)  # quadratic in the weight
    else:
        assert all(abs(part) < 5e-5 for _, part in hidden)


def test_with_classes_the_parts_are_those_of_the_laws_of_the_classes(tmp_path: Path) -> None:
    first = "{mean: [0.0, 0.0], std: 0.8, weight: 0.2, label: 0}"
    second = "{mean: [3.0, 1.0], std: 0.8, weight: 0.8, label: 1}"
    text = GAUSSIAN.replace("{means: [[0.0, 0.0]], stds: [0.8]}", f"[{first}, {second}]").replace(
        "evaluate:", "discriminator: {conditional: true}\nevaluate:"
    )
    sets = build_evaluation_set(_problem(tmp_path, text))
    matrix = torch.tensor([[0.0, 0.7], [-0.7, 0.0]]).double()
    moments = sets.divergence_free_moments(_Linear(matrix))
    assert moments is not None
    # E|A x|^2 of N(m, v I) is 2 a^2 v, and the field A m is constant, so a gradient.
    sigma = moments.value.sigma[0]
    expected = 2 * 0.7**2 * sigma**2 / (0.64 + sigma**2)
    torch.testing.assert_close(moments.value.cost[0], expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("means", ["[[0.0]]", "[[0.0, 0.0, 0.0]]"])
def test_other_dimensions_are_refused(means: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="'observable_path_kl' needs data of exactly 2 dim"):
        plan_of(tmp_path, text=GAUSSIAN.replace("[[0.0, 0.0]]", means))


def test_data_whose_dimension_is_unknown_before_the_run_are_refused(
    gaussian: EvaluationSet,
) -> None:
    with pytest.raises(DataError, match="in 2 dimensions, but the data have 3"):
        build_error_grids(replace(gaussian.problem, dimension=3))
