"""What every checkpoint of a trial is scored against: noised splits and what is known on them.

Computed once a trial. Noise is named by split, so every trial, weight and checkpoint of a study is
compared on the same points and noise, and differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.build import Problem, build_control, training_split
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

TRAINING_POINTS = 1000  # at least so many noised training samples for loss_train


@dataclass(frozen=True)
class EvaluationSet:
    """Noised splits at stratified noise levels; tensors are (N, S) or (N, S, d), float64.

    Attributes:
        problem: what is evaluated.
        held_out: real and generated held-out samples.
        validation: real and generated validation samples.
        score_gap: sigma (score of the data - score of the base) on held_out.real, (N, S, d).
        prior_gap: log p(x_T; sigma_max) - log prior(x_T), (N,).
        optimal_cross_entropy: that of the exact log-ratio on held_out, (N,); None if unknown.
    """

    problem: Problem
    held_out: Batch
    validation: Batch
    score_gap: Tensor
    prior_gap: Tensor
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
    x, sigma = held_out.real.x, held_out.real.sigma
    gap = (problem.data(x, sigma) - problem.base(x, sigma)) / sigma[..., None]
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
    count = min(max(data.num_real, TRAINING_POINTS), data.num_held_out)
    real = problem.real(split, data.num_real)
    rows = torch.arange(count, device=problem.device)
    generated = None
    if base.num_generated:
        pool = problem.generated(split, base.num_generated)
        generated = pool[rows % len(pool)]
    return _noised(problem, (real[rows % len(real)], generated), f"loss-{split}")


def _noised_split(problem: Problem, split: str, count: int) -> Batch:
    pairs = problem.real(split, count), problem.generated(split, count)
    return _noised(problem, pairs, split)


def _noised(problem: Problem, pairs: tuple[Tensor, Tensor | None], purpose: str) -> Batch:
    """Real and, if any, generated samples at the same stratified noise levels."""
    settings = problem.config.evaluate
    generator = named_generator(problem.config.seed, "noise", purpose)
    strata = settings.num_bins * settings.sigmas_per_bin
    shape = (len(pairs[0]), strata)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    sigma = stratified(uniform.to(problem.device), *problem.span)
    full = (*shape, problem.data.dimension)

    def noised(clean: Tensor) -> Noised:
        noise = torch.randn(full, generator=generator, dtype=torch.float64).to(problem.device)
        return Noised.of(clean[:, None, :].expand(full), noise, sigma)

    real = noised(pairs[0])
    generated = None if pairs[1] is None else noised(pairs[1])
    return Batch(real, denoising_residual(problem.base, real), generated)


def _prior_gap(problem: Problem) -> Tensor:
    """Held-out samples at sigma_max: log-density of the data minus that of the prior, (N,)."""
    clean = problem.real("held_out", problem.config.data.num_held_out)
    generator = named_generator(problem.config.seed, "noise", "prior")
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
    sigma_max = problem.span[1]
    x = clean + sigma_max * noise
    law = torch.distributions.Normal(0.0, problem.prior_std)
    prior: Tensor = law.log_prob(x).sum(1)
    return problem.data.log_prob(x, torch.full_like(x[:, 0], sigma_max)) - prior
