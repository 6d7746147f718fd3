"""Noised splits, on which every checkpoint of a trial is scored.

They are computed once per trial. Noise is named by split, so every trial, weight and checkpoint of
a study is compared on the same samples and noise, and differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.correction.linear import LinearCorrection
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_edges, stratified
from dgray.discriminator.objective import (
    Batch,
    CrossEntropy,
    Noised,
    Outputs,
    denoising_residual,
)
from dgray.discriminator.time_score import time_residual
from dgray.metrics.observable import DivergenceFreeMoments
from dgray.metrics.path import NoiseRange, PathMoments, squared_norm, variances
from dgray.problem.problem import Labelled, Problem, training_split
from dgray.trial.observable import ErrorGrids, build_error_grids

TRAINING_POINTS = 1000  # least number of noised training samples for loss_train
MOST_SIGMAS_PER_BIN = 64
MOST_NUMBERS = 2**25  # float64 numbers of a refined split, 256 MB


@dataclass(frozen=True)
class EvaluationSet:
    """Noised splits at stratified noise levels; tensors are (N, S) or (N, S, d), float64.

    Attributes:
        problem: data and base.
        held_out: real and generated held-out samples.
        validation: real and generated validation samples.
        score_gap: sigma (score of the data - score of the base) on held_out.real, (N, S, d), as
            far as it is known (see ``Problem.score_gap``).
        prior_gap: log p(x_T; sigma_max) - log prior(x_T), (N,); None if p is unknown.
        optimal_cross_entropy: cross-entropy of the exact log-ratio on held_out, (N,); None if the
            log-ratio is unknown.
        error_grids: grids of the observable path KL; None unless it is requested.
    """

    problem: Problem
    held_out: Batch
    validation: Batch
    score_gap: Tensor
    prior_gap: Tensor | None
    optimal_cross_entropy: Tensor | None
    error_grids: ErrorGrids | None

    @property
    def span(self) -> NoiseRange:
        """Noise levels and their bins."""
        return NoiseRange(*self.problem.span, self.problem.evaluation.num_bins)

    @property
    def sigma_edges(self) -> list[float]:
        """Edges of the bins."""
        edges = log_edges(*self.problem.span, self.problem.evaluation.num_bins)
        return [float(edge) for edge in edges.tolist()]

    @property
    def knots(self) -> Tensor:
        """Knots of a calibrated weight: ln sigma at the edges, float64, shape (num_bins + 1,)."""
        return torch.tensor(self.sigma_edges, dtype=torch.float64).log()

    def path_moments(self, scaled_gradient: Tensor) -> PathMoments:
        """Return the moments of a path KL from sigma grad d on held_out.real, (N, S, d)."""
        return PathMoments(
            self.held_out.real.sigma,
            squared_norm(self.score_gap),
            torch.linalg.vecdot(self.score_gap, scaled_gradient),
            squared_norm(scaled_gradient),
            self.prior_gap,
        )

    def divergence_free_moments(
        self, correction: LinearCorrection | None
    ) -> DivergenceFreeMoments | None:
        """Return the moments that the observable path KL lacks; None unless it is requested.

        Args:
            correction: correction of one replicate; None: the base.
        """
        return None if self.error_grids is None else self.error_grids.moments(correction)


@torch.no_grad()
def build_evaluation_set(problem: Problem) -> EvaluationSet:
    """Noise the validation and held-out splits."""
    per_bin = problem.evaluation.sigmas_per_bin
    held_out, validation = (_noised_split(problem, s, per_bin) for s in ("held_out", "validation"))
    refined = _refined(problem, held_out) if problem.evaluation.refines_held_out else per_bin
    if refined > per_bin:
        held_out = _noised_split(problem, "held_out", refined)
    log_ratio, optimum = problem.log_ratio(), None
    if log_ratio is not None:
        optimum = CrossEntropy()(Outputs(log_ratio, held_out)).mean(1)
    return EvaluationSet(
        problem,
        held_out,
        validation,
        problem.score_gap(held_out),
        problem.prior_gap(problem.real("held_out", problem.evaluation.num_noised)),
        optimum,
        build_error_grids(problem) if "observable_path_kl" in problem.evaluation.names else None,
    )


@torch.no_grad()
def training_batch(problem: Problem, replicate: int) -> Batch:
    """Noise a replicate's training samples like the held-out ones, repeated if there are few."""
    split = training_split(replicate)
    sizes, num_held_out = problem.sizes, problem.sizes.num_held_out
    most = min(num_held_out, problem.evaluation.num_noised or num_held_out)
    count = min(max(sizes.num_real, TRAINING_POINTS), most)
    rows = torch.arange(count, device=problem.device)
    real = _repeated(problem.real_labelled(split, count), rows)
    generated = None
    if sizes.num_generated:
        generated = _repeated(problem.generated_labelled(split, count), rows)
    per_bin = problem.evaluation.sigmas_per_bin
    return _noised(problem, (real, generated), f"loss-{split}", per_bin)


def _repeated(samples: Labelled, rows: Tensor) -> Labelled:
    """Repeat the samples until there is one for each row."""
    points, labels = samples
    chosen = rows % len(points)
    return points[chosen], None if labels is None else labels[chosen]


def _refined(problem: Problem, held_out: Batch) -> int:
    """Return the noise levels per bin that the path KL of the base needs.

    They add at most as much variance to its estimate as the points themselves do.
    """
    evaluation = problem.evaluation
    per_bin = evaluation.sigmas_per_bin
    if not problem.has_score:
        return per_bin
    error = squared_norm(problem.score_gap(held_out))
    by_level, by_point = variances(error)
    rows = len(error) * evaluation.num_bins * problem.dimension
    most = min(MOST_SIGMAS_PER_BIN, MOST_NUMBERS // rows)
    while 2 * per_bin <= most and by_level * evaluation.sigmas_per_bin / per_bin > by_point:
        per_bin *= 2
    return per_bin


def _noised_split(problem: Problem, split: str, per_bin: int) -> Batch:
    first = problem.evaluation.num_noised
    pairs = problem.real_labelled(split, first), problem.generated_labelled(split, first)
    return _noised(problem, pairs, split, per_bin)


def _noised(
    problem: Problem, pairs: tuple[Labelled, Labelled | None], purpose: str, per_bin: int
) -> Batch:
    """Noise real and, if any, generated samples at the same stratified noise levels."""
    evaluation = problem.evaluation
    generator = named_generator(problem.seed, "noise", purpose)
    shape = (len(pairs[0][0]), evaluation.num_bins * per_bin)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    sigma = stratified(uniform.to(problem.device), *problem.span)
    full = (*shape, problem.dimension)

    def noised(samples: Labelled) -> Noised:
        clean, labels = samples
        noise = torch.randn(full, generator=generator, dtype=torch.float64).to(problem.device)
        classes = None if labels is None else labels[:, None].expand(shape)
        return Noised.of(clean[:, None, :].expand(full), noise, sigma, classes)

    real = noised(pairs[0])
    generated = None if pairs[1] is None else noised(pairs[1])
    return Batch(
        real,
        lambda: denoising_residual(problem.base, real),
        generated,
        lambda: time_residual(problem.base, real),
    )
