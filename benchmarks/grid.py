"""Compare the study `overfit` with a plain grid and with a careful script, both in plain PyTorch.

    python -m benchmarks grid

For each configuration of the study with 100 samples, dgray runs the whole trial: 12 replicates, 3
checkpoints, 3 guidance weights, 3 measures of the KL divergence.

- Plain grid (as of Ray Tune): each cell (configuration, seed, epochs, weight 0.5 or 1, measure) is
  trained from scratch and measured once.
- Careful script: one training for each configuration and seed, with the epochs as checkpoints and
  all weights and measures at each of them.

The costs of one training of each length and of one evaluation by each measure are measured for one
seed of each configuration; sums over all cells follow from them. At weight 1 the three measures of
that seed after the last epoch must agree with dgray's rows. Costs are CPU seconds on one thread;
the start of a process and Ray are on neither side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torchdiffeq import odeint

from benchmarks.plain import (
    Perceptron,
    log_prior,
    mixture_score,
    mixture_score_and_divergence,
    train,
)
from benchmarks.turns import cost_of, machine
from dgray.config.reading.load import load_study
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import sampler_sigmas
from dgray.discriminator.fit import Task
from dgray.plan.plan import Trial, make_plan
from dgray.problem.build import build_device, build_problem, build_task, build_training
from dgray.problem.compute_process import prepare_process
from dgray.problem.make_shared import shared_of
from dgray.problem.points import PointProblem
from dgray.problem.shared import build_artifacts
from dgray.trial.run import run_trial

CASES = tuple((objective, width) for width in (4, 16, 64) for objective in ("cross_entropy", "kl"))
GRID_WEIGHTS = 2  # a plain grid has no calibrated weight
WEIGHTS = 3
RTOL = 1e-4
STANDARD_ERRORS = 4
NOISE_LEVELS = 48


class Artifacts(dict[str, Any]):
    """Artifacts in memory."""

    read_artifact = dict.get
    write_artifact = dict.__setitem__

    def delete_artifact(self, key: str) -> None:
        """Remove an artifact."""
        self.pop(key, None)


class PlainModel:
    """One trained discriminator and its measures at guidance weight 1."""

    def __init__(self, problem: PointProblem, network: Perceptron) -> None:
        """Take data and base of a problem."""
        assert isinstance(problem.base, GaussianMixture)
        assert isinstance(problem.law, GaussianMixture)
        self.problem, self.network = problem, network
        self.law, self.base = problem.law, problem.base

    def path(self) -> tuple[float, float]:
        """Return the path KL and its standard error."""
        low, high = self.problem.span
        points = self.problem.real("held_out")
        length = math.log(high / low)
        generator = named_generator("plain path")
        shares = torch.rand(len(points), NOISE_LEVELS, generator=generator, dtype=torch.float64)
        shares = (torch.arange(NOISE_LEVELS) + shares) / NOISE_LEVELS
        sigma = (low * torch.exp(shares * length)).flatten()
        clean = points.repeat_interleave(NOISE_LEVELS, 0)
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        x = clean + sigma[:, None] * noise
        gap = mixture_score(self.law, x, sigma) - mixture_score(self.base, x, sigma)
        error = (gap - self.network.gradient(x, sigma)).double()
        terms = length * (sigma * (error**2).sum(1).sqrt()).pow(2).view(-1, NOISE_LEVELS).mean(1)
        end = points + high * torch.randn(points.shape, generator=generator, dtype=torch.float64)
        prior = self.law.log_prob(end, end.new_full((len(end),), high))
        values = terms + prior - log_prior(end, self.problem.prior_std)
        return float(values.mean()), float(values.std() / len(values) ** 0.5)

    @torch.no_grad()
    def ode(self) -> tuple[float, float]:
        """Return the KL divergence of the probability-flow ODE and its standard error."""
        x = self.problem.likelihood_points("held_out")
        times = torch.tensor(self.problem.span, dtype=torch.float64).log()

        def slope(t: Tensor, y: Tensor) -> Tensor:
            z, sigma = y[:, :-1], t.exp().expand(len(y))
            score, divergence = mixture_score_and_divergence(self.base, z, sigma)
            gradient, laplacian = self.network.gradient_and_laplacian(z, sigma)
            variance = sigma**2
            change = variance[:, None] * (score + gradient)
            return torch.cat([-change, -(variance * (divergence + laplacian))[:, None]], 1)

        start = torch.cat([x, x.new_zeros(len(x), 1)], 1)
        end = odeint(slope, start, times, rtol=RTOL, atol=RTOL, method="dopri5")[-1]
        log_prob = log_prior(end[:, :-1], self.problem.prior_std) + end[:, -1]
        values = self.law.log_prob(x, x.new_full((len(x),), self.problem.span[0])) - log_prob
        return float(values.mean()), float(values.std() / len(values) ** 0.5)

    def sde(self, num_steps: int) -> float:
        """Return the nearest-neighbour KL divergence of samples of the reverse SDE."""
        evaluation = self.problem.evaluation
        sigmas = sampler_sigmas(self.base, num_steps, self.problem.span, evaluation.rho).tolist()
        generator = named_generator("plain samples")
        shape = (evaluation.num_samples, self.law.dimension)
        x = self.problem.prior_std * torch.randn(shape, generator=generator, dtype=torch.float64)
        for sigma, following in pairwise(sigmas):
            level = x.new_full((len(x),), sigma)
            score = mixture_score(self.base, x, level) + self.network.gradient(x, level)
            denoised, kept = x + sigma**2 * score, (following / sigma) ** 2
            noise = torch.randn(shape, generator=generator, dtype=torch.float64)
            x = denoised + kept * (x - denoised) + following * math.sqrt(1 - kept) * noise
        data = self.problem.real("held_out")[: evaluation.num_samples].numpy()
        own = cKDTree(data).query(data, 6)[0][:, -1]
        others = cKDTree(x.numpy()).query(data, 5)[0][:, -1]
        ratio = math.log(len(x) / (len(data) - 1))
        return float(data.shape[1] * np.log(others / own).mean() + ratio)


def trials() -> Iterator[Trial]:
    """Yield the trial of each configuration."""
    for objective, width in CASES:
        sets = [f"fit.objective={objective}", f"discriminator.width={width}", "data.num_real=100"]
        plan = make_plan(load_study(Path("studies/overfit.yaml"), sets))
        yield from (trial for trial in plan.trials if trial.is_trained)


def costs(trial: Trial, replicate: int) -> tuple[float, float, float]:
    """Return CPU seconds of dgray, of the plain grid and of the careful script."""
    artifacts = build_artifacts([trial], Artifacts())
    rows: list[Any] = []
    dgray = cost_of(
        lambda: rows.extend(r for c in run_trial(trial, artifacts) for r in c.rows)
    ).cpu
    problem = build_problem(
        trial.config, shared_of(trial.config, artifacts), build_device(trial.config)
    )
    assert isinstance(problem, PointProblem)
    task = build_task(trial.config, problem, [replicate])

    def trained(epochs: int) -> tuple[Perceptron, float]:
        member = build_training(trial.config, problem, [replicate], None).ensemble.member(0)
        network = Perceptron(_discriminator(member))
        return network, cost_of(lambda: _train(trial, task, network, replicate, epochs)).cpu

    fits = [trained(epochs) for epochs in trial.epochs]
    model = PlainModel(problem, fits[-1][0])
    steps = next(s.num_steps for s in trial.settings if s.sampler == "sde")
    values: dict[str, Any] = {}

    def measured(name: str, measure: Callable[[], Any]) -> float:
        return cost_of(lambda: values.update({name: measure()})).cpu

    path, ode = measured("path_kl", model.path), measured("kl", model.ode)
    sde = measured("kl_sde", lambda: model.sde(steps))
    check(rows, trial, replicate, values)
    replicates, count = trial.replicates, len(trial.epochs)
    training = [seconds for _, seconds in fits]
    grid = replicates * GRID_WEIGHTS * (3 * sum(training) + count * (path + ode + sde))
    careful = replicates * (training[-1] + count * (WEIGHTS * (ode + sde) + path))
    return dgray, grid, careful


def _discriminator(member: Any) -> Any:
    return getattr(member, "discriminator", member)


def _train(trial: Trial, task: Task, network: Perceptron, replicate: int, epochs: int) -> None:
    assert isinstance(task.base, GaussianMixture)
    settings = trial.config.fit
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    train(task, network, replicate, task.base, range(1, epochs + 1), optimizer)


def check(rows: list[Any], trial: Trial, replicate: int, values: dict[str, Any]) -> None:
    """Compare the three measures after the last epoch at weight 1 with the rows of dgray.

    Raises:
        AssertionError: a difference is above STANDARD_ERRORS of both sides.
    """
    own = {
        row["sampler"]: row
        for row in (row.columns() for row in rows)
        if row["replicate"] == replicate
        and row["epoch"] == trial.epochs[-1]
        and row["guidance_weight"] == 1
    }
    path, path_se = values["path_kl"]
    ode, ode_se = values["kl"]
    sde = own["sde"]
    limits = {
        "path_kl": (path - sde["path_kl"], math.hypot(path_se, sde["path_kl_se"])),
        "kl": (ode - own["ode"]["kl"], math.hypot(ode_se, own["ode"]["kl_se"])),
        "kl_sde": (values["kl_sde"] - sde["kl_sde"], math.sqrt(2) * sde["kl_sde_se"]),
    }
    for name, (difference, error) in limits.items():
        assert abs(difference) < STANDARD_ERRORS * error, (name, difference, error)


def main() -> None:
    """Measure every configuration."""
    prepare_process(1)
    print(f"{machine()}, torch {torch.__version__}; CPU seconds of a configuration\n")
    print("| objective | width | dgray | plain grid | careful script | grid | careful |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    totals = np.zeros(3)
    for index, (trial, (objective, width)) in enumerate(zip(trials(), CASES, strict=True)):
        seconds = costs(trial, index % trial.replicates)
        totals += seconds
        print(_line(objective, str(width), *seconds), flush=True)
    print(_line("all", "", *totals))
    print("\ngoals: 100 and 4")


def _line(objective: str, width: str, dgray: float, grid: float, careful: float) -> str:
    cells = f"{dgray:.0f} | {grid:,.0f} | {careful:.0f}"
    return f"| {objective} | {width} | {cells} | {grid / dgray:.0f} | {careful / dgray:.1f} |"


if __name__ == "__main__":
    main()
