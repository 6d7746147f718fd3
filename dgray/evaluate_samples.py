"""Samples of the guided model by each sampler of a study, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.build import Problem, training_split
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import Denoise, edm_stochastic, heun, reverse_sde
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import StackedGuidance, Weight
from dgray.evaluate import Columns, estimate_columns
from dgray.metrics.estimate import Estimate
from dgray.metrics.neighbours import memorisation, nearest_neighbour_kl
from dgray.metrics.sampler_divergence import heun_log_density
from dgray.plan import Setting
from dgray.setting_weight import stage_weight


@dataclass(frozen=True)
class Way:
    """One way of sampling; settings that share it differ in their weights alone."""

    sampler: str
    num_steps: int
    guided_stage: str

    @staticmethod
    def of(setting: Setting) -> Way:
        """That of a setting."""
        return Way(setting.sampler, setting.num_steps, setting.guided_stage)


@dataclass(frozen=True)
class Drawn:
    """Samples of one setting, shape (n, d); ``log_density``: of the sampler's law there, (n,)."""

    samples: Tensor
    log_density: Tensor | None


def draw(
    problem: Problem,
    discriminator: Discriminator,
    calibrated: Weight,
    settings: Sequence[Setting],
) -> dict[Setting, Drawn]:
    """``num_samples`` samples of every setting, those of one way as one batch.

    The sample of seed i starts from the same noise in every setting, trial and checkpoint.
    """
    drawn: dict[Setting, Drawn] = {}
    for way in dict.fromkeys(map(Way.of, settings)):
        alike = [s for s in settings if Way.of(s) == way]
        weights = [stage_weight(s, calibrated) for s in alike]
        drawn |= dict(zip(alike, _draw(problem, discriminator, way, weights), strict=True))
    return drawn


@torch.no_grad()
def _draw(
    problem: Problem, discriminator: Discriminator, way: Way, weights: Sequence[Weight]
) -> list[Drawn]:
    config = problem.config
    count, num_weights = config.evaluate.num_samples, len(weights)
    shape = (way.num_steps + 1, problem.data.dimension)
    noise = seeded_noise(config.seed, range(count), shape).to(problem.device).transpose(0, 1)
    noise = noise.repeat(1, num_weights, 1)  # (num_steps + 1, weights * count, d)
    owner = torch.arange(num_weights, device=problem.device).repeat_interleave(count)
    stack = StackedGuidance(problem.base, discriminator, weights, owner)
    guided = stack.select(torch.arange(len(owner), device=problem.device))
    corrector = problem.base if way.guided_stage == "predictor" else None
    x = problem.prior_std * noise[0]
    density = None
    if way.sampler == "ode" and "kl_sampler" in config.evaluate.metrics:
        x, density = heun_log_density(guided, x, _sigmas(problem, way), corrector=corrector)
    else:
        x = _sample(problem, way, guided, (x, noise[1:]), corrector)
    return [
        Drawn(x[owner == i], None if density is None else density[owner == i])
        for i in range(num_weights)
    ]


def _sigmas(problem: Problem, way: Way) -> Tensor:
    return karras_sigmas(way.num_steps, *problem.span, problem.config.diffusion.rho)


def _sample(
    problem: Problem,
    way: Way,
    guided: Denoise,
    noise: tuple[Tensor, Tensor],
    corrector: Denoise | None,
) -> Tensor:
    """From the start and the steps' noise to samples at sigma = 0."""
    start, steps = noise
    sigmas = _sigmas(problem, way)
    if way.sampler == "sde":
        return reverse_sde(guided, start, sigmas, steps)
    if way.sampler == "ode":
        return heun(guided, start, sigmas, corrector=corrector)
    churn = problem.config.evaluate.churn
    amounts = (churn.S_churn, churn.S_min, churn.S_max, churn.S_noise)
    return edm_stochastic(guided, start, sigmas, steps, churn=amounts, corrector=corrector)


def score_samples(problem: Problem, setting: Setting, drawn: Drawn) -> Columns:
    """KLs that the samples of one setting can give, of the metrics asked for."""
    metrics = problem.config.evaluate.metrics
    columns: Columns = {}
    if "kl_sde" in metrics and setting.sampler in ("sde", "churn"):
        data = _held_out(problem)
        columns |= estimate_columns("kl_sde", nearest_neighbour_kl(data, drawn.samples))
        columns |= estimate_columns("kl_sde_floor", _floor(problem))
    if drawn.log_density is not None:
        target = problem.data.log_prob(drawn.samples, torch.zeros_like(drawn.log_density))
        columns |= estimate_columns("kl_sampler", Estimate.of(drawn.log_density - target))
    return columns


def score_memorisation(problem: Problem, drawn: Drawn, replicate: int) -> Columns:
    """How much nearer the samples lie to the replicate's training points than to held-out ones."""
    training = problem.real(training_split(replicate), problem.config.data.num_real)
    held_out = problem.real("held_out", problem.config.data.num_held_out)
    return estimate_columns("memorisation", memorisation(drawn.samples, training, held_out))


def _held_out(problem: Problem) -> Tensor:
    """As many held-out points as samples, if there are so many."""
    data = problem.real("held_out", problem.config.data.num_held_out)
    return data[: problem.config.evaluate.num_samples]


def _floor(problem: Problem) -> Estimate:
    """The nearest-neighbour KL of as many fresh samples of the data itself."""
    fresh = problem.real("floor", problem.config.evaluate.num_samples)
    return nearest_neighbour_kl(_held_out(problem), fresh)
