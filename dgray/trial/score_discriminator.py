"""Scoring of one discriminator at one checkpoint: every guidance weight and sampler at once.

Each function here returns columns of ``dgray.record.row.Row`` by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dgray.config.study import Interval
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.discriminator.calibration import GuidanceMoments, calibrate
from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import SplineWeight, StackedGuidance, Weight
from dgray.discriminator.objective import CrossEntropy, Objective, Outputs
from dgray.metrics.classification import accuracy, calibration_error
from dgray.metrics.estimate import Estimate
from dgray.metrics.path import PathLevel, path_divergence, squared_norm
from dgray.problem.problem import Problem, likelihood_labels, likelihood_points, likelihood_probes
from dgray.trial.noised_splits import EvaluationSet

Columns = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """Points of a split at which log-likelihoods are compared.

    Attributes:
        points: at sigma_min, shape (P, d).
        data_log_prob: exact log-density of the data's law there, shape (P,); None if unknown.
        base_log_prob: that of the unguided base's flow, shape (P,).
        converged: whether the base's own integration met the tolerance, shape (P,).
        split: of the points.
    """

    points: Tensor
    data_log_prob: Tensor | None
    base_log_prob: Tensor
    converged: Tensor
    split: str = "held_out"

    @staticmethod
    def read(problem: Problem, artifact: bytes, split: str = "held_out") -> Reference:
        """With the base's log-likelihoods from the artifact of the same split."""
        points = likelihood_points(problem, split)
        known = None
        if problem.law is not None:
            known = problem.law.log_prob(points, torch.full_like(points[:, 0], problem.span[0]))
        stored = safetensors.torch.load(artifact)
        log_prob, converged = (stored[n].to(problem.device) for n in ("log_prob", "converged"))
        return Reference(points, known, log_prob, converged, split)


Calibrated = Mapping[Interval, SplineWeight]
"""The calibrated weight of each guidance interval of a study."""


def calibrated_weights(
    discriminator: Discriminator, sets: EvaluationSet, intervals: Iterable[Interval]
) -> tuple[Calibrated, GuidanceMoments]:
    """The weights that the validation split asks for, and that split's moments.

    Raises:
        FloatingPointError: when the discriminator has diverged.
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
    return {each: calibrate(moments.within(each), edges) for each in intervals}, moments


def score_path(
    held_out: Outputs,
    sets: EvaluationSet,
    weights: Sequence[Weight],
    validation: GuidanceMoments,
) -> list[Columns]:
    """Path KL, score error and the validation split's verdict, for each weight."""
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
    reference: Reference,
) -> list[Columns]:
    """KL(data, model of the probability-flow ODE) for each weight, integrated together."""
    problem, settings = sets.problem, sets.problem.config.evaluate
    count = len(reference.points)
    owner = torch.arange(len(weights), device=problem.device).repeat_interleave(count)
    split = reference.split
    labels, probes = likelihood_labels(problem, split), likelihood_probes(problem, split)
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
        rows.append(
            {
                **_level_of_flow(log_prob, reference),
                **estimate_columns("kl_change", Estimate.of(reference.base_log_prob - log_prob)),
                "kl_unconverged": 1 - float((converged & reference.converged).double().mean()),
            }
        )
    return rows


def _level_of_flow(log_prob: Tensor, reference: Reference) -> Columns:
    """The KL where the law of the data is known, else the negative log-likelihood of images."""
    if reference.data_log_prob is not None:
        return estimate_columns("kl", Estimate.of(reference.data_log_prob - log_prob))
    nll = Estimate.of(-log_prob)
    dimension = reference.points.shape[1]
    bits = nll.scaled(1 / (dimension * math.log(2)))
    # A pixel's 256 bytes are 2 / 255 = 1 / 127.5 apart: density per unit -> mass per byte.
    per_byte = Estimate(bits.value + math.log2(127.5), bits.se)
    return {**estimate_columns("nll", nll), **estimate_columns("bits_per_dim", per_byte)}


def score_discriminator(
    held_out: Outputs, training: Outputs | None, sets: EvaluationSet, objective: Objective
) -> Columns:
    """Losses, accuracy and calibration of the discriminator itself."""
    loss = objective(held_out).double()
    columns = {
        **estimate_columns("loss_held_out", Estimate.of(loss.mean(1))),
        "loss_held_out_bins": [each.value for each in sets.span.by_bin(loss)],
        **_as_classifier(held_out, sets),
    }
    if training is None:
        return columns
    on_training = objective(training).double()
    there, here = Estimate.of(on_training.mean(1)), Estimate.of(loss.mean(1))
    gap = Estimate(here.value - there.value, math.hypot(here.se, there.se))
    return {
        **columns,
        **estimate_columns("loss_train", there),
        **estimate_columns("overfit_gap", gap),
        "loss_train_bins": [each.value for each in sets.span.by_bin(on_training)],
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
    """An estimate as the columns ``name`` and ``name_se``; what is not a number is missing."""
    values = {name: estimate.value, f"{name}_se": estimate.se}
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _bin_columns(name: str, bins: Sequence[Estimate]) -> Columns:
    return {name: [each.value for each in bins], f"{name}_se": [each.se for each in bins]}
