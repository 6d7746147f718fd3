"""Cost of a sample: how often the models are called, and their floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from typing_extensions import override

from dgray.correction.correction import Correction, SamplerCorrection
from dgray.correction.weight import ConstantWeight
from dgray.diffusion.denoiser import (
    Denoiser,
    LevelDenoiser,
    NoiseLevels,
    levels_of,
    with_labels,
)
from dgray.plan.plan import Setting
from dgray.problem.flops import call_flops
from dgray.problem.problem import Problem
from dgray.trial.sampling import (
    Calibrated,
    Columns,
    SamplerSettings,
    acting_weight,
    draw_unguided,
)


def sample_costs(
    problem: Problem, correction: Correction, settings: Sequence[Setting]
) -> dict[Setting, Columns]:
    """Return the columns of the cost of one sample of a corrected denoiser at each setting."""
    base = call_flops(problem.base, problem)
    whole = correction.denoiser(problem.base, ConstantWeight(1.0))
    corrected = call_flops(whole, problem)
    by_bin = _calls_by_bin(problem, settings)
    columns = {}
    for setting in settings:
        calls = problem.evaluation.samplers[setting.sampler].num_calls(setting.num_steps)
        is_predictor = setting.guided_stage == "predictor"
        own = min(setting.num_steps, calls) if is_predictor else calls
        flops = own * corrected + (calls - own) * base
        columns[setting] = _columns(calls, flops, by_bin[SamplerSettings.of(setting).unguided])
    return columns


@torch.no_grad()
def selection_costs(
    problem: Problem,
    correction: SamplerCorrection,
    settings: Sequence[Setting],
    calibrated: Calibrated,
) -> dict[Setting, Columns]:
    """Return the same of a selection, from the expected number of proposals of a sample.

    It is computed from the logits of the held-out samples of the base.
    """
    samples, labels = problem.generated_labelled("held_out")
    discriminator = with_labels(correction.discriminator, labels)
    of_base = discriminator.logit(samples, torch.full_like(samples[:, 0], problem.span[0]))
    base = call_flops(problem.base, problem)
    logit = call_flops(correction.discriminator.logit, problem)
    by_bin = _calls_by_bin(problem, settings)
    columns = {}
    for setting in settings:
        weight = acting_weight(setting, calibrated)(torch.tensor(problem.span[0]))
        proposals = correction.rule(float(weight)).expected_proposals(of_base)
        calls = problem.evaluation.samplers[setting.sampler].num_calls(setting.num_steps)
        of_one = by_bin[SamplerSettings.of(setting).unguided]
        flops = proposals * (calls * base + logit)
        columns[setting] = _columns(proposals * calls, flops, proposals * of_one)
    return columns


@dataclass(frozen=True)
class _CallRecorder(Denoiser, LevelDenoiser):
    """Denoiser D(x; sigma) = x that records the noise levels at which it is called."""

    levels: NoiseLevels
    called: list[float] = field(default_factory=list)

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.at_level(x, float(sigma.flatten()[0]))

    @override
    def at_level(self, x: Tensor, sigma: float) -> Tensor:
        self.called.append(sigma)
        return x


@torch.no_grad()
def call_levels(problem: Problem, sampler: SamplerSettings) -> list[float]:
    """Return the noise levels at which a sampler calls the denoiser for one sample."""
    recorder = _CallRecorder(levels_of(problem.base))
    draw_unguided(replace(problem, base=recorder), sampler, range(1))
    return recorder.called


def _calls_by_bin(problem: Problem, settings: Sequence[Setting]) -> dict[SamplerSettings, Tensor]:
    """Return the denoiser calls of one sample in each noise-level bin, (B,), by sampler."""
    low, high = (math.log(level) for level in problem.span)
    count, by_sampler = problem.evaluation.num_bins, {}
    for sampler in {SamplerSettings.of(setting).unguided for setting in settings}:
        levels = torch.tensor(call_levels(problem, sampler), dtype=torch.float64).log()
        bins = ((levels - low) / (high - low) * count).floor().clamp(0, count - 1).long()
        by_sampler[sampler] = torch.bincount(bins, minlength=count).double()
    return by_sampler


def _columns(calls: float, flops: float, by_bin: Tensor) -> Columns:
    return {
        "sample_calls": round(calls),
        "sample_calls_bins": by_bin.tolist(),
        "sample_flops": round(flops),
    }
