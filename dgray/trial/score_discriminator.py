"""Scores of one discriminator at one checkpoint: all guidance weights and samplers at once.

Each function returns columns of a row by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.discriminator.calibration import GuidanceMoments, calibrate
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import StackedGuidance, Weight
from dgray.discriminator.objective import CrossEntropy, Objective, Outputs
from dgray.metrics.classification import accuracy, calibration_error
from dgray.metrics.estimate import Estimate
from dgray.metrics.path import PathLevel, path_divergence, squared_norm
from dgray.problem.artifacts import Shared
from dgray.problem.problem import Problem
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Calibrated, Columns, Interval


@dataclass(frozen=True)
class LikelihoodReference:
    """Points of a split at which log-likelihoods are compared.

    Attributes:
        split: ``held_out`` or ``validation``.
        points: points at sigma_min, shape (P, d).
        base_log_prob: log-density of the unguided base's flow, shape (P,).
        converged: whether the base's own integration met the tolerance, shape (P,).
    """

    split: str
    points: Tensor
    base_log_prob: Tensor
    converged: Tensor

    @staticmethod
    def read_all(problem: Problem, shared: Shared) -> list[LikelihoodReference]:
        """Read the base's log-likelihoods of all splits that have an artifact."""
        references = []
        for split, role in (("held_out", "likelihood"), ("validation", "likelihood-validation")):
            if shared.get(role) is not None:
                stored = shared.tensors(role)
                values = (stored[name].to(problem.device) for name in ("log_prob", "converged"))
                points = problem.likelihood_points(split)
                references.append(LikelihoodReference(split, points, *values))
        return references


def calibrated_weights(
    discriminator: Discriminator, sets: EvaluationSet, intervals: Iterable[Interval]
) -> tuple[Calibrated, GuidanceMoments]:
    """Return the weights that minimise the path KL on the validation split, and its moments.

    Raises:
        FloatingPointError: if the discriminator has diverged.
    """
    pull = Outputs(discriminator, sets.validation).scaled_gradient
    gain = -torch.linalg.vecdot(sets.validation.residual, pull)
    moments = GuidanceMoments(sets.validation.real.sigma, gain, squared_norm(pull))
    if not (torch.isfinite(moments.cost).all() and torch.isfinite(gain).all()):
        raise FloatingPointError(
            "the gradient of the logit must be finite on the validation split, but it is not; "
            "lower fit.learning_rate"
        )
    edges = torch.tensor(sets.sigma_edges, dtype=torch.float64).log()
    return {i: calibrate(moments.within(i), edges) for i in intervals}, moments


def score_path(
    held_out: Outputs,
    sets: EvaluationSet,
    weights: Sequence[Weight],
    validation: GuidanceMoments,
) -> list[Columns]:
    """Return path KL, score error and change on the validation split, for each weight."""
    moments = sets.path_moments(held_out.scaled_gradient)
    rows = []
    for weight in weights:
        path = path_divergence(moments, weight, sets.span)
        change = sets.span.log_length * validation.change(weight).double().mean(1)
        rows.append(
            {
                **_level_columns(path.level),
                **estimate_columns("path_kl_change", path.change),
                **_bin_columns("path_kl_change_bins", path.change_bins),
                **estimate_columns("validation_change", Estimate.of(change)),
            }
        )
    return rows


def _level_columns(level: PathLevel | None) -> Columns:
    if level is None:
        return {}
    return {
        **estimate_columns("path_kl", level.path_kl),
        **_bin_columns("path_kl_bins", level.path_kl_bins),
        **estimate_columns("score_error", level.score_error),
        **_bin_columns("score_error_bins", level.score_error_bins),
    }


def score_flow(
    discriminator: Discriminator,
    sets: EvaluationSet,
    weights: Sequence[Weight],
    reference: LikelihoodReference,
) -> list[Columns]:
    """Return scores of the probability-flow ODE for each weight, integrated together."""
    problem, settings = sets.problem, sets.problem.evaluation
    count = len(reference.points)
    owner = torch.arange(len(weights), device=problem.device).repeat_interleave(count)
    labels = problem.likelihood_labels(reference.split)
    probes = problem.likelihood_probes(reference.split)
    repeated = None if labels is None else labels.repeat(len(weights))
    stack = StackedGuidance(problem.base, discriminator, weights, owner, repeated)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        chosen = None if probes is None else probes[:, index % count]
        return stack.select(index).with_divergence(x, sigma, chosen)

    flow = ode_log_likelihood(
        field,
        reference.points.repeat(len(weights), 1),
        problem.span,
        prior_std=problem.prior_std,
        tolerance=settings.tolerance,
        max_steps=settings.max_steps,
    )
    rows = []
    for log_prob, converged in zip(
        flow.log_prob.view(-1, count), flow.converged.view(-1, count), strict=True
    ):
        columns: Columns = {
            **estimate_columns("kl_change", Estimate.of(reference.base_log_prob - log_prob)),
            "kl_unconverged": 1 - float((converged & reference.converged).double().mean()),
        }
        levels = problem.likelihood_estimates(reference.points, log_prob)
        for name, estimate in levels.items():
            columns |= estimate_columns(name, estimate)
        rows.append(columns)
    return rows


def score_discriminator(
    held_out: Outputs, training: Outputs | None, sets: EvaluationSet, objective: Objective
) -> Columns:
    """Return losses, accuracy and calibration of the discriminator itself."""
    loss = objective(held_out).double()
    columns = {
        **estimate_columns("loss_held_out", Estimate.of(loss.mean(1))),
        "loss_held_out_bins": [mean.value for mean in sets.span.by_bin(loss)],
        **_as_classifier(held_out, sets),
    }
    if training is None:
        return columns
    on_training = objective(training).double()
    train, held_out_loss = Estimate.of(on_training.mean(1)), Estimate.of(loss.mean(1))
    gap = Estimate(held_out_loss.value - train.value, math.hypot(held_out_loss.se, train.se))
    return {
        **columns,
        **estimate_columns("loss_train", train),
        **estimate_columns("overfit_gap", gap),
        "loss_train_bins": [mean.value for mean in sets.span.by_bin(on_training)],
    }


def _as_classifier(held_out: Outputs, sets: EvaluationSet) -> Columns:
    entropy = CrossEntropy()(held_out).double().mean(1)
    logits = held_out.real_logit, held_out.generated_logit
    columns: Columns = {
        **estimate_columns("cross_entropy", Estimate.of(entropy)),
        **estimate_columns("accuracy", accuracy(*logits)),
        "calibration_error": calibration_error(*logits),
    }
    if sets.optimal_cross_entropy is not None:
        gap = entropy - sets.optimal_cross_entropy
        columns |= estimate_columns("cross_entropy_gap", Estimate.of(gap))
    return columns


def estimate_columns(name: str, estimate: Estimate) -> Columns:
    """Return an estimate as the columns ``name`` and ``name_se``; NaN becomes None."""
    values = {name: estimate.value, f"{name}_se": estimate.se}
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _bin_columns(name: str, bins: Sequence[Estimate]) -> Columns:
    return {name: [mean.value for mean in bins], f"{name}_se": [mean.se for mean in bins]}
