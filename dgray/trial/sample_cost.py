"""Cost of a sample: how often the models are called, and their floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dgray.correction.correction import Correction, SamplerCorrection
from dgray.correction.weight import ConstantWeight
from dgray.diffusion.denoiser import with_labels
from dgray.plan.plan import Setting
from dgray.problem.flops import call_flops
from dgray.problem.problem import Problem
from dgray.trial.sampling import (
    Calibrated,
    Columns,
    SamplerSettings,
    acting_weight,
    call_levels,
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
