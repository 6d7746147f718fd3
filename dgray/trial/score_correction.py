"""Scores of one correction at one checkpoint: all weights and samplers at once.

Each function returns columns of a row by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dgray.catalogue import METRIC_COLUMNS
from dgray.correction.calibration import Calibration
from dgray.correction.correction import CorrectedBatch, Correction
from dgray.correction.guidance import Guidance
from dgray.correction.weight import ConstantWeight, Weight
from dgray.diffusion.likelihood import OdeLikelihood, ode_log_likelihood
from dgray.discriminator.discriminator import ZeroDiscriminator
from dgray.discriminator.objective import CrossEntropy, Outputs
from dgray.metrics.classification import accuracy, calibration_error
from dgray.metrics.estimate import Estimate
from dgray.metrics.path import NoiseRange
from dgray.problem.artifacts import Shared
from dgray.problem.problem import Problem
from dgray.trial.noised_splits import EvaluationSet
from dgray.trial.sampling import Columns

ERROR_POINTS = 4  # the integration error is estimated on every fourth point


_PARTS = {c.name for c in METRIC_COLUMNS if c.name.endswith("_parts")}


@dataclass(frozen=True)
class LikelihoodReference:
    """Points of a split at which log-likelihoods are compared.

    Attributes:
        problem: data and base.
        split: ``held_out`` or ``validation``.
        points: points at sigma_min, shape (P, d).
        base_log_prob: log-density of the unguided base's flow, shape (P,).
        converged: whether the base's own integration met the tolerance, shape (P,).
    """

    problem: Problem
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
                references.append(LikelihoodReference(problem, split, points, *values))
        return references

    @cached_property
    def unguided(self) -> Columns:
        """Scores of the flow of the base."""
        (columns,) = _score_flow(Guidance(ZeroDiscriminator()), [ConstantWeight(0.0)], self)
        return columns


def score_flow(
    correction: Correction, weights: Sequence[Weight], reference: LikelihoodReference
) -> list[Columns]:
    """Return scores of the probability-flow ODE for each weight; all are integrated together.

    Those of a weight of 0 are the scores of the base, which are computed once.
    """
    acting = [weight for weight in weights if not weight.is_zero]
    scores = iter(_score_flow(correction, acting, reference) if acting else ())
    return [reference.unguided if weight.is_zero else next(scores) for weight in weights]


def _score_flow(
    correction: Correction, weights: Sequence[Weight], reference: LikelihoodReference
) -> list[Columns]:
    """Integrate the flow for each weight.

    Every fourth point is integrated a second time with ten times the tolerance: the difference
    estimates the error of the integration.
    """
    problem, num_points = reference.problem, len(reference.points)
    fine = torch.arange(num_points, device=problem.device)
    points = torch.cat([fine, fine[::ERROR_POINTS]])
    flow = _integrate_flow(correction, problem, weights, reference, points)
    columns = []
    for log_prob, converged in zip(
        flow.log_prob.view(len(weights), -1), flow.converged.view(len(weights), -1), strict=True
    ):
        difference = log_prob[:num_points:ERROR_POINTS] - log_prob[num_points:]
        error = float(difference.abs().mean())
        likelihood = OdeLikelihood(log_prob[:num_points], converged[:num_points])
        columns.append(
            flow_columns(problem, likelihood, reference)
            | {"kl_integration_error": error if math.isfinite(error) else None}
        )
    return columns


def _integrate_flow(
    correction: Correction,
    problem: Problem,
    weights: Sequence[Weight],
    reference: LikelihoodReference,
    points: Tensor,
) -> OdeLikelihood:
    """Return log-likelihoods under each weight.

    Args:
        correction: correction of one replicate.
        problem: data and base.
        weights: W of them.
        reference: points at sigma_min, and their split.
        points: indices of reference points, (P,): all, then those that are integrated again with
            ten times the tolerance.

    Returns:
        W x P values, in the order of the weights.
    """
    split, device = reference.split, problem.device
    labels, probes = problem.likelihood_labels(split), problem.likelihood_probes(split)
    rows = points.repeat(len(weights))
    owner = torch.arange(len(weights), device=device).repeat_interleave(len(points))
    stack = CorrectedBatch(
        problem.base, correction, weights, owner, None if labels is None else labels[rows]
    )
    coarser = torch.ones(len(points), device=device, dtype=torch.float64)
    coarser[len(reference.points) :] = 10.0
    breaks = [torch.tensor(weight.breaks, dtype=torch.float64) for weight in weights]
    padded = torch.nn.utils.rnn.pad_sequence(breaks, True, math.nan).to(device)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        chosen = None if probes is None else probes[:, rows[index]]
        return stack.select(index).with_divergence(x, sigma, chosen)

    return ode_log_likelihood(
        field,
        reference.points[rows],
        problem.span,
        prior_std=problem.prior_std,
        tolerance=(problem.evaluation.tolerance * coarser).repeat(len(weights)),
        max_steps=problem.evaluation.max_steps,
        breaks=padded[owner],
    )


def flow_columns(
    problem: Problem,
    flow: OdeLikelihood,
    reference: LikelihoodReference,
    with_error: Callable[[Estimate], Estimate] = lambda estimate: estimate,
) -> Columns:
    """Return the columns of the log-densities of a model at the reference points.

    ``with_error`` adds an error that is not due to these points.
    """
    converged = flow.converged & reference.converged
    change = reference.base_log_prob - flow.log_prob
    columns: Columns = {
        **estimate_columns("kl_change", with_error(Estimate.of(change).with_parts(change))),
        "kl_unconverged": 1 - float(converged.double().mean()),
    }
    labels = problem.likelihood_labels(reference.split)
    estimates = problem.likelihood_estimates(reference.points, flow.log_prob, labels)
    for name, estimate in estimates.items():
        in_nats = problem.dimension * math.log(2) if name == "bits_per_dim" else 1.0
        estimate = with_error(estimate.scaled(in_nats)).scaled(1 / in_nats)
        columns |= estimate_columns(name, estimate)
    return columns


def score_losses(held_out: Tensor, training: Tensor | None, span: NoiseRange) -> Columns:
    """Return the losses of a correction.

    Args:
        held_out: loss on the held-out split at each point and noise level, (N, S).
        training: the same on the training split; None for controls.
        span: noise levels and bins.
    """
    loss = held_out.double()
    held_out_loss = Estimate.of(loss.mean(1))
    columns: Columns = {
        **estimate_columns("loss_held_out", held_out_loss),
        "loss_held_out_bins": [mean.value for mean in span.by_bin(loss)],
    }
    if training is None:
        return columns
    on_training = training.double()
    train = Estimate.of(on_training.mean(1))
    gap = Estimate(held_out_loss.value - train.value, math.hypot(held_out_loss.se, train.se))
    return {
        **columns,
        **estimate_columns("loss_train", train),
        **estimate_columns("overfit_gap", gap),
        "loss_train_bins": [mean.value for mean in span.by_bin(on_training)],
    }


def score_classifier(held_out: Outputs, sets: EvaluationSet) -> Columns:
    """Return cross-entropy, accuracy and calibration of a discriminator."""
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


def observable_columns(level: Estimate, change: Estimate, grid_error: float) -> Columns:
    """Return the columns of the observable path KL."""
    return {
        **estimate_columns("observable_path_kl", level),
        **estimate_columns("observable_path_kl_change", change),
        "observable_path_kl_grid_error": grid_error if math.isfinite(grid_error) else None,
    }


def fit_columns(fit: Calibration) -> Columns:
    """Return a calibrated weight as its columns."""
    return {
        "calibrated_sigmas": fit.weight.knots.exp().tolist(),
        "calibrated_weights": fit.weight.values.tolist(),
    }


def estimate_columns(name: str, estimate: Estimate) -> Columns:
    """Return an estimate as its columns: value, standard error and, if declared, its parts."""
    values = {name: estimate.value, f"{name}_se": estimate.se}
    columns: Columns = {k: None if math.isnan(value) else value for k, value in values.items()}
    if estimate.parts and f"{name}_parts" in _PARTS:
        columns[f"{name}_parts"] = list(estimate.parts)
    return columns
