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
from dgray.diffusion.sampler import heun, reverse_sde, sampler_sigmas
from dgray.metrics.estimate import Estimate
from dgray.metrics.tilt import Tilt
from dgray.plan.plan import Setting
from dgray.problem.problem import Labelled, Problem
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Columns, acting_weight
from dgray.trial.score_correction import (
    LikelihoodReference,
    estimate_columns,
    flow_columns,
    observable_columns,
)


def score_selected_paths(
    correction: SamplerCorrection, sets: EvaluationSet, settings: Sequence[Setting]
) -> dict[Setting, Columns]:
    """Return the path KL of each setting: a path of the base is kept or not by its end alone."""
    problem, first = sets.problem, sets.problem.evaluation.num_noised
    real = {
        split: _logits(correction, problem, problem.real_labelled(split, first), f"real {split}")
        for split in ("held_out", "validation")
    }
    base = sets.path_moments(torch.zeros_like(sets.score_gap))
    hidden = sets.divergence_free_moments(None)
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        held_out, validation = (
            _tilt(correction, problem, setting, _of_base(correction, problem, split, setting))
            for split in real
        )
        change = held_out.change(real["held_out"])
        columns[setting] = {
            **estimate_columns("path_kl_change", change),
            **estimate_columns("validation_change", validation.change(real["validation"])),
        }
        if base.prior is not None:
            path = base.prior + sets.span.log_length * base.base.mean(1)
            path_kl = Estimate.of(path + held_out.losses(real["held_out"]))
            path_kl = held_out.with_base_error(path_kl, real["held_out"])
            columns[setting] |= estimate_columns("path_kl", path_kl)
            if hidden is not None:
                # The tilt acts on the ends of paths, so the bound changes by as much.
                level, error = hidden.of_base(path_kl, sets.span)
                columns[setting] |= observable_columns(level, change, error)
    return columns


def score_selected_flow(
    correction: SamplerCorrection,
    problem: Problem,
    settings: Sequence[Setting],
    reference: LikelihoodReference,
) -> dict[Setting, Columns]:
    """Return the KL of settings whose proposals are samples of the probability-flow ODE."""
    split, points = reference.split, reference.points
    labels = problem.likelihood_labels(split)
    real = _logit_at(correction, points, labels, problem.span[0])
    columns: dict[Setting, Columns] = {}
    for setting in settings:
        of_base = _of_base(correction, problem, split, setting, is_flow=True)
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


def _of_base(
    correction: SamplerCorrection,
    problem: Problem,
    split: str,
    setting: Setting,
    *,
    is_flow: bool = False,
) -> Tensor:
    """Return the logits of samples of the base, shape (M,).

    Points are drawn from the prior, by Heun's method for the flow, else by the reverse SDE. The
    generated samples of a split have another law if they are exact draws of an exact base. Images
    are those of the split, which Heun's method drew.
    """
    if problem.shape is not None:
        images = problem.generated_labelled(split)
        return _logits(correction, problem, images, f"generated {split}")
    sigmas = sampler_sigmas(problem.base, setting.num_steps, problem.span, problem.evaluation.rho)
    count, labels = problem.sizes.generated(split), problem.generated_labelled(split)[1]
    law, sampler, num_noisy = (
        ("flow", heun, 0) if is_flow else ("path", reverse_sde, len(sigmas) - 1)
    )
    shape = torch.Size((1 + num_noisy, count, problem.dimension))
    noise = problem.start_noise("noise", "selection", law, split, shape=shape)
    start = problem.prior_std_at(float(sigmas[0])) * noise[0]
    samples = sampler(with_labels(problem.base, labels), start, sigmas, noise[1:])
    return _logits(correction, problem, (samples, labels), f"{law} {split}")


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
