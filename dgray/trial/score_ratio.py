"""Estimates of KL(data || base) from the logit of a discriminator, beside the exact value."""

from __future__ import annotations

import torch
from torch import Tensor

from dgray.diffusion.denoiser import with_labels
from dgray.discriminator.discriminator import Discriminator, ZeroDiscriminator
from dgray.metrics.estimate import Estimate
from dgray.metrics.path import squared_norm
from dgray.metrics.ratio import denoising_estimate, donsker_varadhan, nwj, path_estimate
from dgray.problem.problem import Labelled, Problem
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Columns
from dgray.trial.score_correction import estimate_columns

RATIO = "ratio_kl"


def score_ratio(
    discriminator: Discriminator, sets: EvaluationSet, scaled_gradient: Tensor
) -> Columns:
    """Return the estimates of a discriminator; of the base, which has none, the exact value only.

    Args:
        discriminator: discriminator of one replicate, or a control.
        sets: noised splits.
        scaled_gradient: sigma times its gradient on ``sets.held_out.real``, (N, S, d).
    """
    problem, first = sets.problem, sets.problem.evaluation.num_noised
    real = problem.real_labelled("held_out", first)
    columns, exact = {}, problem.log_ratio()
    if exact is not None:
        logits = _logits(exact, problem, real, "real")
        columns = estimate_columns(f"{RATIO}_exact", Estimate.of(logits))
    if isinstance(discriminator, ZeroDiscriminator):
        return columns
    of_real = _logits(discriminator, problem, real, "real")
    generated = problem.generated_labelled("held_out", first)
    of_base = _logits(discriminator, problem, generated, "generated")
    cost, length = squared_norm(scaled_gradient), sets.span.log_length
    cross = torch.linalg.vecdot(sets.held_out.residual, scaled_gradient)
    estimates = {
        RATIO: Estimate.of(of_real),
        f"{RATIO}_dv": donsker_varadhan(of_real, of_base),
        f"{RATIO}_nwj": nwj(of_real, of_base),
        f"{RATIO}_path": path_estimate(cost, length),
        f"{RATIO}_denoising": denoising_estimate(cost, cross, length),
    }
    for name, estimate in estimates.items():
        columns |= estimate_columns(name, estimate)
    return columns


def _logits(
    discriminator: Discriminator, problem: Problem, samples: Labelled, purpose: str
) -> Tensor:
    """Return the logits of held-out samples noised to sigma_min, shape (N,)."""
    clean, labels = samples
    lowest = problem.span[0]
    x = clean + lowest * problem.start_noise("noise", "ratio", purpose, shape=clean.shape)
    return with_labels(discriminator, labels).logit(x, torch.full_like(x[:, 0], lowest))
