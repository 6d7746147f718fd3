"""Cost of a sample: how often the models are called, and their floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dgray.correction.correction import Correction, SamplerCorrection
from dgray.correction.weight import ConstantWeight
from dgray.diffusion.denoiser import with_labels
from dgray.plan.plan import Setting
from dgray.problem.flops import call_flops
from dgray.problem.problem import Problem
from dgray.trial.sampling import Calibrated, Columns, acting_weight


def sample_costs(
    problem: Problem, correction: Correction, settings: Sequence[Setting]
) -> dict[Setting, Columns]:
    """Return the columns of the cost of one sample of a corrected denoiser at each setting."""
    base = call_flops(problem.base, problem)
    whole = correction.denoiser(problem.base, ConstantWeight(1.0))
    corrected = call_flops(whole, problem)
    columns = {}
    for setting in settings:
        calls = problem.evaluation.samplers[setting.sampler].num_calls(setting.num_steps)
        is_predictor = setting.guided_stage == "predictor"
        own = min(setting.num_steps, calls) if is_predictor else calls
        flops = own * corrected + (calls - own) * base
        columns[setting] = _columns(calls, flops)
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
    columns = {}
    for setting in settings:
        weight = acting_weight(setting, calibrated)(torch.tensor(problem.span[0]))
        proposals = correction.rule(float(weight)).expected_proposals(of_base)
        calls = problem.evaluation.samplers[setting.sampler].num_calls(setting.num_steps)
        columns[setting] = _columns(proposals * calls, proposals * (calls * base + logit))
    return columns


def _columns(calls: float, flops: float) -> Columns:
    return {"sample_calls": round(calls), "sample_flops": round(flops)}
