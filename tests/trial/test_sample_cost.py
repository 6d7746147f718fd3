"""Denoiser calls of a sample by noise-level bin, for every sampler."""

from __future__ import annotations

import itertools

import pytest
import torch

from dgray.diffusion.sigmas import karras_sigmas, log_edges
from dgray.plan.plan import Trial
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem
from dgray.problem.problem import Problem
from dgray.trial.sample_cost import call_levels
from dgray.trial.sampling import SamplerSettings
from tests.trial.test_run import plan_of, results

TEXT = """
name: tiny
data: {kind: mixture, name: ring8, num_held_out: 40, num_validation: 40}
base: {kind: wrong_mixture, num_generated: 40}
correction: {kind: [guidance, rejection]}
fit: {objective: oracle}
evaluate:
  guidance_weight: [1]
  guided_stage: [both, predictor]
  sampler: [ode, sde, churn, restart]
  num_steps: 9
  metrics: [path_kl]
  num_bins: 5
  num_samples: 3
"""


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, ...]:
    return plan_of(tmp_path_factory.mktemp("study"), text=TEXT)


@pytest.fixture(scope="module")
def problem(trials: tuple[Trial, ...]) -> Problem:
    return build_problem(trials[0].config, Shared({}), torch.device("cpu"))


def test_the_calls_of_all_bins_are_those_of_the_sample(trials: tuple[Trial, ...]) -> None:
    for trial in trials:
        for row in results(trial)[0].rows:
            by_bin = row["sample_calls_bins"]
            assert len(by_bin) == 5
            assert sum(by_bin) == pytest.approx(row["sample_calls"], abs=0.5)  # an integer


def test_heun_calls_both_ends_of_each_step(problem: Problem) -> None:
    levels = call_levels(problem, SamplerSettings("ode", 9, "both"))
    sigmas = karras_sigmas(9, *problem.span, problem.evaluation.rho)[:-1].tolist()
    expected = [sigma for pair in itertools.pairwise(sigmas) for sigma in pair]
    assert levels == [*expected, sigmas[-1]]


def test_levels_are_counted_in_their_bins(trials: tuple[Trial, ...], problem: Problem) -> None:
    row = next(r for r in results(trials[0])[0].rows if r["sampler"] == "sde")
    edges = log_edges(*problem.span, 5).tolist()
    sigmas = karras_sigmas(9, *problem.span, problem.evaluation.rho)[:-1].tolist()
    expected = [0.0] * 5
    for sigma in sigmas:
        bin = next((b for b in range(5) if sigma < edges[b + 1]), 4)
        expected[bin] += 1
    assert row["sample_calls_bins"] == expected
