"""Cost of a sample: how often the models are called, and their floating-point operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from typing_extensions import override

from dgray.correction.correction import Correction, SamplerCorrection
from dgray.correction.weight import ConstantWeight
from dgray.diffusion.denoiser import Denoiser, NoiseLevels, levels_of
from dgray.diffusion.shapes import Scalars, Vectors
from dgray.plan.plan import Setting
from dgray.problem.flops import counted, denoiser_flops
from dgray.problem.problem import Problem
from dgray.trial.sampling import Columns, DrawRequest, draw

SEEDS = 16  # samples of a corrected sampler, whose calls are random


def sample_costs(
    problem: Problem, correction: Correction, settings: Sequence[Setting]
) -> dict[Setting, Columns]:
    """Return the columns of the cost of one sample at each setting."""
    if isinstance(correction, SamplerCorrection):
        return {setting: _measured(problem, correction, setting) for setting in settings}
    base = denoiser_flops(problem.base, problem)
    whole = correction.denoiser(problem.base, ConstantWeight(1.0))
    corrected = denoiser_flops(whole, problem)
    columns = {}
    for setting in settings:
        calls = problem.evaluation.samplers[setting.sampler].num_calls(setting.num_steps)
        is_predictor = setting.guided_stage == "predictor"
        own = min(setting.num_steps, calls) if is_predictor else calls
        flops = own * corrected + (calls - own) * base
        columns[setting] = _columns(calls, flops)
    return columns


def _columns(calls: float, flops: float) -> Columns:
    return {"sample_calls": round(calls), "sample_flops": round(flops)}


@torch.no_grad()
def _measured(problem: Problem, correction: Correction, setting: Setting) -> Columns:
    """Return the mean cost of a few samples, which are drawn."""
    base = _CountedDenoiser(problem.base)
    request = DrawRequest(
        correction=correction, calibrated={}, settings=[setting], seeds=range(SEEDS)
    )
    flops = counted(lambda: draw(replace(problem, base=base), request))
    return _columns(sum(base.rows) / SEEDS, flops / SEEDS)


@dataclass(frozen=True)
class _CountedDenoiser(Denoiser):
    inner: Denoiser
    rows: list[int] = field(default_factory=list)

    @property
    def levels(self) -> NoiseLevels:
        return levels_of(self.inner)

    @override
    def __call__(self, x: Vectors, sigma: Scalars) -> Tensor:
        self.rows.append(sigma.numel())
        return self.inner(x, sigma)
