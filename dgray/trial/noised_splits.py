"""What every checkpoint of a trial is scored against: noised splits and what is known on them.

Computed once a trial. Noise is named by split, so every trial, weight and checkpoint of a study is
compared on the same points and noise, and differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_edges, stratified
from dgray.discriminator.objective import (
    Batch,
    CrossEntropy,
    Noised,
    Outputs,
    denoising_residual,
)
from dgray.metrics.path import NoiseRange, PathMoments, squared_norm
from dgray.problem.build import build_control
from dgray.problem.problem import Problem, training_split

TRAINING_POINTS = 1000  # at least so many noised training samples for loss_train

Labelled = tuple[Tensor, Tensor | None]  # samples (N, d) and their classes (N,)


@dataclass(frozen=True)
class EvaluationSet:
    """Noised splits at stratified noise levels; tensors are (N, S) or (N, S, d), float64.

    Attributes:
        problem: what is evaluated.
        held_out: real and generated held-out samples.
        validation: real and generated validation samples.
        score_gap: sigma (score of the data - score of the base) on held_out.real, (N, S, d). Where
            the score of the data is unknown it is that of each noised sample given its clean one
            (Vincent 2011): its mean is the same, so changes are unbiased, but levels are not.
        prior_gap: log p(x_T; sigma_max) - log prior(x_T), (N,); None where p is unknown.
        optimal_cross_entropy: that of the exact log-ratio on held_out, (N,); None if unknown.
    """

    problem: Problem
    held_out: Batch
    validation: Batch
    score_gap: Tensor
    prior_gap: Tensor | None
    optimal_cross_entropy: Tensor | None

    @property
    def span(self) -> NoiseRange:
        """The noise levels and their bins."""
        return NoiseRange(*self.problem.span, self.problem.config.evaluate.num_bins)

    @property
    def sigma_edges(self) -> list[float]:
        """Edges of the bins."""
        values = log_edges(*self.problem.span, self.problem.config.evaluate.num_bins).tolist()
        return [float(value) for value in values]

    def path_moments(self, scaled_gradient: Tensor) -> PathMoments:
        """From sigma grad d on held_out.real, shape (N, S, d)."""
        return PathMoments(
            self.held_out.real.sigma,
            squared_norm(self.score_gap),
            torch.linalg.vecdot(self.score_gap, scaled_gradient),
            squared_norm(scaled_gradient),
            self.prior_gap,
        )


@torch.no_grad()
def build_evaluation_set(problem: Problem) -> EvaluationSet:
    """Noise the validation and held-out splits."""
    sizes = problem.config.data
    held_out = _noised_split(problem, "held_out", sizes.num_held_out)
    validation = _noised_split(problem, "validation", sizes.num_validation)
    if problem.law is None:
        return EvaluationSet(problem, held_out, validation, -held_out.residual, None, None)
    x, sigma = held_out.real.x, held_out.real.sigma
    gap = (problem.law(x, sigma) - problem.base(x, sigma)) / sigma[..., None]
    optimum = None
    if problem.base_mixture is not None:
        oracle = Outputs(build_control("oracle", problem), held_out)
        optimum = CrossEntropy()(oracle).mean(1)
    return EvaluationSet(problem, held_out, validation, gap, _prior_gap(problem), optimum)


@torch.no_grad()
def training_batch(problem: Problem, replicate: int) -> Batch:
    """A replicate's training samples, noised as the held-out ones are; repeated if too few."""
    split = training_split(replicate)
    data, base = problem.config.data, problem.config.base
    most = _most(problem, data.num_held_out)
    num_real = problem.num_real
    rows = torch.arange(min(max(num_real, TRAINING_POINTS), most), device=problem.device)
    generated = None
    if base.num_generated:
        pool = _generated(problem, split, base.num_generated, len(rows))
        generated = _repeated(pool, rows)
    real = _repeated(_real(problem, split, num_real, len(rows)), rows)
    return _noised(problem, (real, generated), f"loss-{split}")


def _repeated(samples: Labelled, rows: Tensor) -> Labelled:
    """The samples over and over, as many as there are rows."""
    points, labels = samples
    chosen = rows % len(points)
    return points[chosen], None if labels is None else labels[chosen]


def _noised_split(problem: Problem, split: str, count: int) -> Batch:
    first = _most(problem, count)
    pairs = _real(problem, split, count, first), _generated(problem, split, count, first)
    return _noised(problem, pairs, split)


def _most(problem: Problem, count: int) -> int:
    """How many of ``count`` samples are noised."""
    return min(count, problem.config.evaluate.num_noised or count)


def _real(problem: Problem, split: str, count: int, first: int) -> Labelled:
    labels = problem.real_labels(split, count)
    return problem.real(split, count, first), None if labels is None else labels[:first]


def _generated(problem: Problem, split: str, count: int, first: int) -> Labelled:
    labels = problem.generated_labels(split, count)
    return problem.generated(split, count, first), None if labels is None else labels[:first]


def _noised(problem: Problem, pairs: tuple[Labelled, Labelled | None], purpose: str) -> Batch:
    """Real and, if any, generated samples at the same stratified noise levels."""
    settings = problem.config.evaluate
    generator = named_generator(problem.config.seed, "noise", purpose)
    strata = settings.num_bins * settings.sigmas_per_bin
    shape = (len(pairs[0][0]), strata)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    sigma = stratified(uniform.to(problem.device), *problem.span)
    full = (*shape, problem.dimension)

    def noised(samples: Labelled) -> Noised:
        clean, labels = samples
        noise = torch.randn(full, generator=generator, dtype=torch.float64).to(problem.device)
        each = None if labels is None else labels[:, None].expand(shape)
        return Noised.of(clean[:, None, :].expand(full), noise, sigma, each)

    real = noised(pairs[0])
    generated = None if pairs[1] is None else noised(pairs[1])
    return Batch(real, denoising_residual(problem.base, real), generated)


def _prior_gap(problem: Problem) -> Tensor:
    """Held-out samples at sigma_max: log-density of the data minus that of the prior, (N,)."""
    assert problem.law is not None
    count = problem.config.data.num_held_out
    clean = problem.real("held_out", count, _most(problem, count))
    generator = named_generator(problem.config.seed, "noise", "prior")
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
    sigma_max = problem.span[1]
    x = clean + sigma_max * noise
    law = torch.distributions.Normal(0.0, problem.prior_std)
    prior: Tensor = law.log_prob(x).sum(1)
    return problem.law.log_prob(x, torch.full_like(x[:, 0], sigma_max)) - prior
