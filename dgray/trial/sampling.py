"""Samples of the guided model by each sampler of a study, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.noise import philox_noise, seeded_noise
from dgray.diffusion.sampler import Denoise, edm_stochastic, heun, reverse_sde
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import StackedGuidance, Weight
from dgray.metrics.estimate import Estimate
from dgray.metrics.neighbours import NeighbourReference, jackknife, memorisation
from dgray.metrics.sampler_divergence import SampledDensity, heun_log_density
from dgray.plan.plan import Setting
from dgray.problem.problem import Problem, training_split
from dgray.trial.score_discriminator import Calibrated, Columns, estimate_columns
from dgray.trial.setting_weight import stage_weight

STOCHASTIC = ("sde", "churn")


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
    """Samples of one setting, shape (n, d); ``density``: that of the sampler's law at them."""

    samples: Tensor
    density: SampledDensity | None = None


@dataclass(frozen=True)
class SampleReference:
    """What samples are compared with; empty where ``kl_sde`` is not asked for.

    Attributes:
        data: held-out points, as many as samples if there are so many.
        floor: the estimate for as many fresh samples of the data itself.
        base: of each stochastic way of sampling, the estimate's jackknife values for the base.
    """

    data: NeighbourReference | None
    floor: Estimate | None
    base: Mapping[Way, Tensor]

    @staticmethod
    def build(problem: Problem, settings: Sequence[Setting]) -> SampleReference:
        """Compute it once for a trial."""
        evaluate = problem.config.evaluate
        if "kl_sde" not in evaluate.metric_names:
            return SampleReference(None, None, {})
        held_out = problem.real("held_out", problem.config.data.num_held_out)
        data = NeighbourReference.of(held_out[: evaluate.num_samples])
        floor = jackknife(data.kl_values(problem.real("floor", evaluate.num_samples)))
        ways = {_unguided(Way.of(s)) for s in settings if s.sampler in STOCHASTIC}
        base = {way: data.kl_values(_draw_base(problem, way)) for way in ways}
        return SampleReference(data, floor, base)


def draw(
    problem: Problem,
    discriminator: Discriminator,
    calibrated: Calibrated,
    settings: Sequence[Setting],
    seeds: range | None = None,
) -> dict[Setting, Drawn]:
    """Samples of every setting, those of one way as one batch; None: of all ``num_samples`` seeds.

    The sample of seed i starts from the same noise in every setting, trial and checkpoint.
    """
    drawn: dict[Setting, Drawn] = {}
    for way in dict.fromkeys(map(Way.of, settings)):
        alike = [s for s in settings if Way.of(s) == way]
        weights = [stage_weight(s, calibrated) for s in alike]
        found = _draw(problem, (discriminator, weights), way, seeds or _all_seeds(problem))
        drawn |= dict(zip(alike, found, strict=True))
    return drawn


@torch.no_grad()
def _draw(
    problem: Problem,
    guidance: tuple[Discriminator, Sequence[Weight]],
    way: Way,
    seeds: range,
) -> list[Drawn]:
    discriminator, weights = guidance
    start, steps = (t.repeat(1, len(weights), 1) for t in _noise(problem, way, seeds))
    owner = torch.arange(len(weights), device=problem.device).repeat_interleave(len(seeds))
    labels = _labels(problem, seeds)
    repeated = None if labels is None else labels.repeat(len(weights))
    stack = StackedGuidance(problem.base, discriminator, weights, owner, repeated)
    guided = stack.select(torch.arange(len(owner), device=problem.device))
    corrector = with_labels(problem.base, repeated) if way.guided_stage == "predictor" else None
    if way.sampler == "ode" and "kl_sampler" in problem.config.evaluate.metric_names:
        density = heun_log_density(
            guided,
            start[0],
            _sigmas(problem, way),
            prior_std=problem.prior_std,
            corrector=corrector,
        )
        parts = (density.samples, density.log_density, density.folded)
        return [
            Drawn(found.samples, found)
            for found in (
                SampledDensity(*(part[owner == i] for part in parts)) for i in range(len(weights))
            )
        ]
    x = _sample(problem, way, guided, (start[0], steps), corrector)
    return [Drawn(x[owner == i]) for i in range(len(weights))]


@torch.no_grad()
def _draw_base(problem: Problem, way: Way) -> Tensor:
    """Samples of the unguided base from the same noise, shape (n, d)."""
    start, steps = _noise(problem, way, _all_seeds(problem))
    return _sample(problem, way, problem.base, (start[0], steps), None)


def _unguided(way: Way) -> Way:
    """Without guidance it does not matter which stage would be guided."""
    return Way(way.sampler, way.num_steps, "both")


def _all_seeds(problem: Problem) -> range:
    return range(problem.config.evaluate.num_samples)


def _labels(problem: Problem, seeds: range) -> Tensor | None:
    """The class of the sample of each seed, a function of the seed alone; all as likely."""
    if not problem.num_classes:
        return None
    normal = philox_noise(problem.config.seed, seeds, (1,), "label")[:, 0]
    share = torch.special.ndtr(normal)  # uniform in [0, 1]
    drawn: Tensor = (share * problem.num_classes).long().clamp(max=problem.num_classes - 1)
    return drawn.to(problem.device)


def _noise(problem: Problem, way: Way, seeds: range) -> tuple[Tensor, Tensor]:
    """The start, shape (1, n, d), and the noise of the steps, shape (num_steps, n, d)."""
    config, dimension = problem.config, problem.dimension
    noise = seeded_noise if problem.shape is None else philox_noise
    start = noise(config.seed, seeds, (1, dimension), "start")
    steps = noise(
        config.seed, seeds, (way.num_steps if way.sampler in STOCHASTIC else 0, dimension), "steps"
    )
    start, steps = (t.to(problem.device).transpose(0, 1) for t in (start, steps))
    return problem.prior_std * start, steps


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


def score_samples(
    problem: Problem, setting: Setting, drawn: Drawn, reference: SampleReference
) -> Columns:
    """KLs that the samples of one setting can give, of the metrics asked for."""
    columns: Columns = {}
    if reference.data is not None and setting.sampler in STOCHASTIC:
        assert reference.floor is not None
        values = reference.data.kl_values(drawn.samples)
        change = values - reference.base[_unguided(Way.of(setting))]
        columns |= estimate_columns("kl_sde", jackknife(values))
        columns |= estimate_columns("kl_sde_change", jackknife(change))
        columns |= estimate_columns("kl_sde_floor", reference.floor)
    if drawn.density is not None:
        folded = float(drawn.density.folded.double().mean())
        columns["kl_sampler_folded"] = folded
        if folded == 0:
            law = drawn.density.log_density
            assert problem.law is not None  # a rule of the study file
            target = problem.law.log_prob(drawn.samples, torch.zeros_like(law))
            columns |= estimate_columns("kl_sampler", Estimate.of(law - target))
    return columns


def score_memorisation(problem: Problem, drawn: Drawn, replicate: int) -> Columns:
    """How much nearer the samples lie to the replicate's training points than to held-out ones."""
    training = problem.real(training_split(replicate), problem.num_real)
    held_out = problem.real("held_out", problem.config.data.num_held_out)
    return estimate_columns("memorisation", memorisation(drawn.samples, training, held_out))
