"""Samples of corrected models: which are drawn, with which weights, by which samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from dgray.correction.acting import ActingDenoiser
from dgray.correction.correction import Correction, SamplerCorrection
from dgray.correction.guidance import Guidance
from dgray.correction.selection import select
from dgray.correction.weight import (
    BlockWeight,
    ConstantWeight,
    IntervalWeight,
    ScaledWeight,
    SplineWeight,
    Weight,
    in_noise_range,
)
from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.noise import philox_noise
from dgray.diffusion.sampler import rounded_span, sampler_sigmas
from dgray.discriminator.discriminator import ZeroDiscriminator
from dgray.errors import PartError
from dgray.metrics.sampler_divergence import SampledDensity, heun_log_density
from dgray.plan.plan import Setting
from dgray.problem.problem import Problem

MAX_KEPT = 2**24  # values of proposals that are kept: 128 MiB in double precision

Columns = dict[str, Any]
"""Values of a row by the names of their columns."""

Interval = tuple[float, float] | None
"""Range of sigma in which guidance acts; None: everywhere."""

Calibrated = Mapping[Interval, SplineWeight]
"""Calibrated weight of each guidance interval of a study."""


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """Samples to draw from a corrected model.

    Attributes:
        correction: correction of one replicate, or a control.
        calibrated: its calibrated weights.
        settings: settings to draw samples at.
        seeds: seeds of the samples.
        replicate: replicate whose training samples may be repeated; None for controls.
    """

    correction: Correction
    calibrated: Calibrated
    settings: Sequence[Setting]
    seeds: Sequence[int]
    replicate: int | None = None

    def without_correction(self) -> DrawRequest:
        """Return the request without its correction, whose tensors are sent separately."""
        return replace(self, correction=Guidance(ZeroDiscriminator()))


@dataclass(frozen=True)
class ScoredSamples:
    """Scores of the samples of one setting.

    Attributes:
        columns: their metrics.
        shown: the first samples, for the report, shape (k, d).
        nearest: nearest training sample of each of them; None if it is not shown.
    """

    columns: Columns
    shown: Tensor
    nearest: Tensor | None = None


class SampleScoring(Protocol):
    """Drawing and scoring of samples; implemented for points and for images."""

    def score(self, request: DrawRequest) -> dict[Setting, ScoredSamples]:
        """Draw the requested samples and score those of each setting."""
        ...


@dataclass(frozen=True)
class SamplerSettings:
    """Sampler, steps and guided stage; settings that share them are drawn as one batch."""

    sampler: str
    num_steps: int
    guided_stage: str

    @staticmethod
    def of(setting: Setting) -> SamplerSettings:
        """Return those of a setting."""
        return SamplerSettings(setting.sampler, setting.num_steps, setting.guided_stage)

    @property
    def unguided(self) -> SamplerSettings:
        """The same without guidance, where the stage that would be guided has no effect."""
        return SamplerSettings(self.sampler, self.num_steps, "both")


@dataclass(frozen=True)
class DrawnSamples:
    """Samples of one setting, shape (n, d), and their density under the sampler."""

    samples: Tensor
    density: SampledDensity | None = None


def acting_weight(setting: Setting, calibrated: Mapping[Interval, Weight]) -> Weight:
    """Return the average weight over a step, at which likelihoods and path KLs are computed.

    Heun averages the slopes of its two stages, so a weight w on the first stage alone acts as
    w / 2 (Kim et al. 2023 publish w = 2 with it). A calibrated weight is the acting one.
    """
    if setting.guidance_weight is None:
        weight = calibrated[setting.interval]
    else:
        share = 0.5 if setting.guided_stage == "predictor" else 1.0
        weight = ConstantWeight(share * setting.guidance_weight)
    return in_interval(weight, setting.interval)


def in_interval(weight: Weight, interval: Interval) -> Weight:
    """Return a weight that is 0 outside an interval."""
    return weight if interval is None else IntervalWeight(weight, *interval)


def stage_weight(setting: Setting, calibrated: Mapping[Interval, Weight]) -> Weight:
    """Return the weight on each guided stage of the sampler."""
    acting = acting_weight(setting, calibrated)
    return ScaledWeight(acting, 2.0) if setting.guided_stage == "predictor" else acting


def draw(
    problem: Problem,
    request: DrawRequest,
    *,
    with_density: bool = False,
    proposals: Proposals | None = None,
) -> dict[Setting, DrawnSamples]:
    """Draw samples of every setting, those with the same sampler settings as one batch.

    The sample of seed i starts from the same noise in every setting, trial and checkpoint.

    Args:
        problem: data and base.
        request: samples to draw.
        with_density: also compute the density of samples of Heun's method.
        proposals: proposals of a selection, shared with other requests of the same seeds.
    """
    if isinstance(request.correction, SamplerCorrection):
        proposals = proposals or Proposals(problem, request.seeds)
        return {s: _draw_selected(proposals, request, s) for s in request.settings}
    drawn: dict[Setting, DrawnSamples] = {}
    for sampler in dict.fromkeys(map(SamplerSettings.of, request.settings)):
        batch = [s for s in request.settings if SamplerSettings.of(s) == sampler]
        ends = rounded_span(problem.base, problem.span)
        weights = [in_noise_range(stage_weight(s, request.calibrated), *ends) for s in batch]
        samples = _draw_batch(problem, request, sampler, weights, with_density)
        drawn |= dict(zip(batch, samples, strict=True))
    return drawn


@torch.no_grad()
def _draw_batch(
    problem: Problem,
    request: DrawRequest,
    sampler: SamplerSettings,
    weights: Sequence[Weight],
    with_density: bool,
) -> list[DrawnSamples]:
    """Draw the samples of all weights at once."""
    count = len(weights)
    start, noise = _noise(problem, sampler, request.seeds)
    start, noise = start.repeat(count, 1), noise.repeat(1, count, 1)
    labels = sample_labels(problem, request.seeds)
    repeated = None if labels is None else labels.repeat(count)
    base = with_labels(problem.base, repeated)
    bound = with_labels(request.correction, repeated)
    guided = ActingDenoiser(base, bound, BlockWeight(tuple(weights)), repeated)
    is_predictor = sampler.guided_stage == "predictor"
    corrector = base if is_predictor else None
    if with_density and problem.evaluation.samplers[sampler.sampler].is_flow:
        density = heun_log_density(
            guided,
            start,
            _sigmas(problem, sampler),
            prior_std=problem.prior_std,
            corrector=corrector,
        )
        parts = (density.samples, density.log_density, density.folded)
        blocks = zip(*(part.chunk(count) for part in parts), strict=True)
        return [DrawnSamples(block[0], SampledDensity(*block)) for block in blocks]
    x = _sample(problem, sampler, guided, (start, noise), corrector)
    return [DrawnSamples(block) for block in x.chunk(count)]


class Proposals:
    """Samples of the base that are proposed to a selection.

    The proposals of a sample depend on its seed and their numbers alone. Small samples are drawn
    for all seeds at once and kept, since all weights, replicates and checkpoints share them.
    """

    def __init__(self, problem: Problem, seeds: Sequence[int]) -> None:
        self.problem = problem
        self.seeds = seeds
        self.labels = sample_labels(problem, seeds)
        self._kept: dict[tuple[SamplerSettings, int], tuple[Tensor, Tensor]] = {}

    def take(
        self, sampler: SamplerSettings, number: int, of: int, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return proposals (n, d) and uniform random numbers (n,) of some seeds.

        Args:
            sampler: sampler of the base.
            number: number of the proposal.
            of: how many proposals a sample has at most.
            rows: positions of the seeds.
        """
        if len(self.seeds) * of * self.problem.dimension > MAX_KEPT:
            return self._drawn(sampler, number, rows)
        if (sampler, number) not in self._kept:
            every = torch.arange(len(self.seeds), device=rows.device)
            self._kept[sampler, number] = self._drawn(sampler, number, every)
        samples, uniform = self._kept[sampler, number]
        return samples[rows], uniform[rows]

    def _drawn(self, sampler: SamplerSettings, number: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        problem, seeds = self.problem, [self.seeds[row] for row in rows.tolist()]
        base = with_labels(problem.base, self.labels_of(rows))
        samples = _sample(problem, sampler, base, _noise(problem, sampler, seeds, number), None)
        normal = problem.sample_noise(seeds, (1, 1), f"proposal {number} decision")
        return samples, torch.special.ndtr(normal.to(problem.device))[:, 0, 0]

    def labels_of(self, rows: Tensor) -> Tensor | None:
        """Return the classes of some seeds; None without classes."""
        return None if self.labels is None else self.labels[rows]


@torch.no_grad()
def _draw_selected(proposals: Proposals, request: DrawRequest, setting: Setting) -> DrawnSamples:
    """Draw samples of a setting that are selected among samples of the base."""
    correction, sampler = request.correction, SamplerSettings.of(setting).unguided
    assert isinstance(correction, SamplerCorrection)
    lowest = proposals.problem.span[0]
    weight = acting_weight(setting, request.calibrated)(torch.tensor(lowest))
    rule = correction.rule(float(weight))

    def propose(number: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        samples, uniform = proposals.take(sampler, number, len(rule.proposals), rows)
        discriminator = with_labels(correction.discriminator, proposals.labels_of(rows))
        logit = discriminator.logit(samples, torch.full_like(samples[:, 0], lowest))
        return samples, logit, uniform

    return DrawnSamples(select(rule, propose, len(request.seeds)).samples)


@torch.no_grad()
def draw_unguided(problem: Problem, sampler: SamplerSettings, seeds: range) -> Tensor:
    """Draw samples of the unguided base from the same noise, shape (n, d)."""
    base = with_labels(problem.base, sample_labels(problem, seeds))
    return _sample(problem, sampler, base, _noise(problem, sampler, seeds), None)


def sample_labels(problem: Problem, seeds: Sequence[int]) -> Tensor | None:
    """Return the class of the sample of each seed, a function of the seed alone.

    Classes are as frequent as in an exact distribution of the data, otherwise equally frequent.
    """
    if not problem.num_classes:
        return None
    normal = philox_noise(problem.seed, seeds, (1,), "label")[:, 0]
    share = torch.special.ndtr(normal)  # uniform in [0, 1]
    return problem.classes(share).to(problem.device)


def _noise(
    problem: Problem, sampler: SamplerSettings, seeds: Sequence[int], proposal: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the start, shape (n, d), and the noise of the steps, shape (draws, n, d).

    Other proposals of a sample than number 0 have other noise.
    """
    prefix = f"proposal {proposal} " if proposal else ""
    draws = problem.evaluation.samplers[sampler.sampler].num_draws(sampler.num_steps)
    start = problem.sample_noise(seeds, (1, problem.dimension), f"{prefix}start")
    steps = problem.sample_noise(seeds, (draws, problem.dimension), f"{prefix}steps")
    start, steps = (t.to(problem.device).transpose(0, 1) for t in (start, steps))
    first = float(_sigmas(problem, sampler)[0])
    return problem.prior_std_at(first) * start[0], steps


def _sigmas(problem: Problem, sampler: SamplerSettings) -> Tensor:
    return sampler_sigmas(problem.base, sampler.num_steps, problem.span, problem.evaluation.rho)


def _sample(
    problem: Problem,
    settings: SamplerSettings,
    denoiser: Denoiser,
    noise: tuple[Tensor, Tensor],
    corrector: Denoiser | None,
) -> Tensor:
    """Return samples at sigma = 0 from the start and the noise of the steps."""
    sampler = problem.evaluation.samplers[settings.sampler]
    options = dict(sampler.options)
    if corrector is not None:  # of a sampler with two stages
        options["corrector"] = corrector
    start = noise[0]
    samples: object = sampler.function(
        denoiser, start, _sigmas(problem, settings), noise[1], **options
    )
    if not isinstance(samples, Tensor) or samples.shape != start.shape:
        actual = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
        raise PartError(
            f"the sampler {settings.sampler} must return samples of shape {tuple(start.shape)}, "
            f"but returned {actual}"
        )
    if not samples.is_floating_point():
        raise PartError(
            f"the sampler {settings.sampler} must return floating-point numbers, but returned "
            f"{samples.dtype}"
        )
    return samples
