"""Divergence-free part of the error of the guided score, on grids of a problem in the plane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.correction.linear import LinearCorrection
from dgray.diffusion.class_mixture import ClassMixture
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.mixture import ExactLaw
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import stratified
from dgray.errors import DataError
from dgray.metrics.helmholtz import DensityGrid, DivergenceFree, density_grid
from dgray.metrics.observable import DivergenceFreeMoments, divergence_free_moments
from dgray.problem.points import ExactPointProblem
from dgray.problem.problem import Problem

LEVELS = 24  # least number of noise levels
GRID_SAMPLES = 2**16  # samples that the grids must contain


@dataclass(frozen=True)
class GridLevel:
    """Grid of the data, or of one of their classes, at a noise level.

    Attributes:
        index: number of the noise level.
        sigma: the noise level at each node, (N,).
        labels: the class at each node, int64 (N,); None without classes.
        share: probability of the class.
        grid: grid.
        base: divergence-free part of sigma (score of the data - score of the base).
    """

    index: int
    sigma: Tensor
    labels: Tensor | None
    share: float
    grid: DensityGrid
    base: DivergenceFree

    def change_by(self, correction: LinearCorrection) -> DivergenceFree:
        """Return the divergence-free part of sigma times its change of the score."""
        bound, points = with_labels(correction, self.labels), self.grid.points
        change = self.sigma[:, None] * bound.score_change(points, self.sigma)
        return self.grid.divergence_free(change)


@dataclass(frozen=True)
class ErrorGrids:
    """Grids at noise levels in the middles of strata of equal width in ln sigma.

    Attributes:
        sigmas: noise levels, (S,), equally many in each noise-level bin.
        levels: grids of all noise levels and classes.
    """

    sigmas: Tensor
    levels: tuple[GridLevel, ...]

    def moments(self, correction: LinearCorrection | None) -> DivergenceFreeMoments:
        """Return the moments of the path KL that have no effect on marginals.

        Args:
            correction: correction of one replicate; None: none.
        """
        values = torch.zeros(2, len(self.sigmas), 3, dtype=torch.float64)
        for level in self.levels:
            own = level.base.zero if correction is None else level.change_by(correction)
            pairs = (level.base, level.base), (level.base, own), (own, own)
            products = torch.tensor([a.product(b) for a, b in pairs], dtype=torch.float64)
            values[:, level.index] += level.share * products.T
        values = values.to(self.sigmas.device)
        return divergence_free_moments(self.sigmas, values[0], values[1])


def build_error_grids(problem: Problem) -> ErrorGrids:
    """Compute the grids of a problem, and the divergence-free part of its base.

    Raises:
        DataError: if the data are not points of known density in the plane.
    """
    if not isinstance(problem, ExactPointProblem) or problem.dimension != 2:
        raise DataError(
            "the observable path KL needs data of known density in 2 dimensions, but the data "
            f"have {problem.dimension}; remove it from evaluate.metrics"
        )
    bins = problem.evaluation.num_bins
    count = bins * max(2, math.ceil(LEVELS / bins))
    middles = torch.full((count,), 0.5, dtype=torch.float64)
    sigmas = stratified(middles, *problem.span)
    levels = tuple(_levels(problem, sigmas.tolist()))
    return ErrorGrids(sigmas.to(problem.device), levels)


def _levels(problem: ExactPointProblem, sigmas: list[float]) -> Iterator[GridLevel]:
    for law, label, share in _laws(problem):
        generator = named_generator(problem.seed, "grid", *([] if label is None else [str(label)]))
        clean = law.sample(GRID_SAMPLES, generator)
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
        for index, level in enumerate(sigmas):
            grid = density_grid(law, level, clean + level * noise)
            sigma = torch.full_like(grid.points[:, 0], level)
            labels = None if label is None else torch.full_like(sigma, label, dtype=torch.int64)
            gap = problem.score_gap_at(grid.points, sigma, labels)
            yield GridLevel(index, sigma, labels, share, grid, grid.divergence_free(gap))


def _laws(problem: ExactPointProblem) -> Iterator[tuple[ExactLaw, int | None, float]]:
    """Yield the distribution of the data, or that of each class if a model reads classes."""
    law = problem.law
    if not (problem.num_classes and isinstance(law, ClassMixture)):
        yield law, None, 1.0
        return
    for label, share in enumerate(law.class_weights.tolist()):
        components = torch.nonzero(law.classes == label)[:, 0]
        yield law.mixture.subset(components), label, share
