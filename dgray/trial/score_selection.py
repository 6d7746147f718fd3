"""KL divergences of a correction that selects among samples of the base, by the tilt of its law.

Logits are those of samples noised to sigma_min; the samples of the base are the generated ones of
a split. See ``dgray.metrics.tilt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dgray.correction.correction import SamplerCorrection
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.likelihood import OdeLikelihood
from dgray.metrics.estimate import Estimate
from dgray.metrics.tilt import Tilt
from dgray.plan.plan import Setting
from dgray.problem.problem import Labelled, Problem
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Columns, acting_weight
from dgray.trial.score_correction import LikelihoodReference, estimate_columns, flow_columns


def score_selected_paths(
    correction: SamplerCorrection, sets: EvaluationSet, settings: Sequence[Setting]
) -> dict[Setting, Columns]:
    """Return the path KL of each setting: a path of the base is kept or not by its end alone."""
    problem, first = sets.problem, sets.problem.evaluation.num_noised
    splits = ("held_out", "validation")
    real = [_logits(correction, problem, problem.real_labelled(s, first), s) for s in splits]
    of_base = [_of_base(correction, problem, split) for split in splits]
    base = sets.path_moments(torch.zeros_like(sets.score_gap))
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        held_out, validation = (_tilt(correction, problem, setting, law) for law in of_base)
        columns[setting] = {
            **estimate_columns("path_kl_change", held_out.change(real[0])),
            **estimate_columns("validation_change", validation.change(real[1])),
        }
        if base.prior is not None:
            path = base.prior + sets.span.log_length * base.base.mean(1)
            path_kl = Estimate.of(path + held_out.losses(real[0]))
            path_kl = held_out.with_base_error(path_kl, real[0])
            columns[setting] |= estimate_columns("path_kl", path_kl)
    return columns


def score_selected_flow(
    correction: SamplerCorrection,
    problem: Problem,
    settings: Sequence[Setting],
    reference: LikelihoodReference,
) -> dict[Setting, Columns]:
    """Return the KL of settings whose proposals are samples of the probability-flow ODE."""
    points, labels = reference.points, problem.likelihood_labels(reference.split)
    real, of_base = (
        _logit_at(correction, points, labels, problem.span[0]),
        _of_base(correction, problem, reference.split),
    )
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        tilt = _tilt(correction, problem, setting, of_base)
        law = OdeLikelihood(reference.base_log_prob - tilt.losses(real), reference.converged)
        with_error = partial(tilt.with_base_error, real=real)
        columns[setting] = flow_columns(problem, law, reference, with_error)
    return columns


def _tilt(
    correction: SamplerCorrection, problem: Problem, setting: Setting, of_base: Tensor
) -> Tilt:
    weight = acting_weight(setting, {})(torch.tensor(problem.span[0]))
    return Tilt(correction.rule(float(weight)).log_tilt, of_base)


def _of_base(correction: SamplerCorrection, problem: Problem, split: str) -> Tensor:
    """Return the logits of the generated samples of a split, shape (M,)."""
    return _logits(correction, problem, problem.generated_labelled(split), f"generated {split}")


def _logits(
    correction: SamplerCorrection, problem: Problem, samples: Labelled, purpose: str
) -> Tensor:
    """Return the logits of samples noised to sigma_min, shape (N,)."""
    clean, labels = samples
    lowest = problem.span[0]
    noise = problem.start_noise("noise", "selection", purpose, shape=clean.shape)
    return _logit_at(correction, clean + lowest * noise, labels, lowest)


def _logit_at(
    correction: SamplerCorrection, points: Tensor, labels: Tensor | None, sigma: float
) -> Tensor:
    discriminator = with_labels(correction.discriminator, labels)
    return discriminator.logit(points, torch.full_like(points[:, 0], sigma))
