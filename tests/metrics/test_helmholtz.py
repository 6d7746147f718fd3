"""Helmholtz decomposition in the plane against closed forms and an independent solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import solve_sylvester
from torch import Tensor

from dgray.diffusion.full_mixture import FullGaussianMixture
from dgray.diffusion.mixture import ExactLaw, GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.metrics import helmholtz
from dgray.metrics.helmholtz import DensityGrid, density_grid

SIGMA = 0.3


def _grid(law: ExactLaw, sigma: float = SIGMA) -> DensityGrid:
    generator = named_generator(0, "samples")
    clean = law.sample(2**16, generator)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return density_grid(law, sigma, clean + sigma * noise)


def _hidden(grid: DensityGrid, field: Tensor) -> float:
    part = grid.divergence_free(field)
    return part.product(part)[0]


def _gaussian(covariance: Tensor) -> FullGaussianMixture:
    one = torch.ones(1, dtype=torch.float64)
    return FullGaussianMixture.of(torch.tensor([[0.5, -1.0]]).double(), covariance[None], one)


@pytest.fixture(scope="module")
def ring() -> GaussianMixture:
    angles = torch.arange(5, dtype=torch.float64) * 2 * torch.pi / 5
    means = 1.2 * torch.stack([angles.cos(), angles.sin()], 1)
    weights = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3], dtype=torch.float64)
    return GaussianMixture(means, torch.full_like(means, 0.25), weights)


@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.95])
def test_the_part_of_a_linear_error_of_a_gaussian_has_its_closed_form(correlation: float) -> None:
    clean = torch.tensor([[1.0, correlation * 0.4], [correlation * 0.4, 0.16]]).double()
    law, matrix = _gaussian(clean), torch.tensor([[0.3, 1.0], [-0.2, 0.5]]).double()
    grid = _grid(law)
    field = (grid.points - law.means[0]) @ matrix.T
    # e = A y, y ~ N(0, C): grad phi = S y with S symmetric and S C + C S = A C + (A C)^T
    # transformed to the precision P: tr(P (A - S)) = 0 and P (A - S) C antisymmetric.
    covariance = (clean + SIGMA**2 * torch.eye(2)).numpy()
    gradient = _symmetric_part(matrix.numpy(), covariance)
    rest = matrix.numpy() - gradient
    expected = np.trace(rest @ covariance @ rest.T)
    assert _hidden(grid, field) == pytest.approx(expected, rel=1e-3)


def _symmetric_part(matrix: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Symmetric S that minimises E|(A - S) y|^2: S C + C S = A C + C A^T."""
    right = matrix @ covariance + covariance @ matrix.T
    solution: np.ndarray = solve_sylvester(covariance, covariance, right)
    return solution


def test_a_gradient_has_no_divergence_free_part(ring: GaussianMixture) -> None:
    grid = _grid(ring)
    x = grid.points
    for field in (
        ring.score(x, torch.full_like(x[:, 0], SIGMA)),
        torch.stack([torch.cos(2 * x[:, 0]), torch.sin(x[:, 1])], 1),
        torch.stack([2 * x[:, 0] * x[:, 1], x[:, 0] ** 2], 1),
    ):
        size = float((field**2).sum(1).mean())
        assert abs(_hidden(grid, field)) < 1e-4 * size


def test_a_rotation_along_the_level_lines_has_no_gradient_part(ring: GaussianMixture) -> None:
    law = _gaussian(torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double())
    for density in (law, ring):
        grid = _grid(density)
        score = density.score(grid.points, torch.full_like(grid.points[:, 0], SIGMA))
        # div(p J grad log p) = div(J grad p) = 0
        field = torch.stack([-score[:, 1], score[:, 0]], 1)
        log_prob = density.log_prob(grid.points, torch.full_like(score[:, 0], SIGMA))
        share = log_prob.exp() / log_prob.exp().sum()
        energy = float((share * (field**2).sum(1)).sum())
        assert _hidden(grid, field) == pytest.approx(energy, rel=1e-3)


def test_the_part_agrees_with_a_galerkin_method(ring: GaussianMixture) -> None:
    grid = _grid(ring, 0.6)

    def field(x: Tensor) -> Tensor:
        return torch.stack([torch.sin(2 * x[:, 1]) + x[:, 0], x[:, 0] * x[:, 1]], 1)

    assert _hidden(grid, field(grid.points)) == pytest.approx(_galerkin(ring, field), rel=3e-4)


def _galerkin(law: GaussianMixture, field: object, degree: int = 18) -> float:
    """Least squares of e - grad phi over polynomials phi, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    std = float((law.stds[0, 0] ** 2 + 0.6**2) ** 0.5)
    offsets = std * np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    x = (law.means.numpy()[:, None] + offsets).reshape(-1, 2)
    w = (law.weights.numpy()[:, None] * np.outer(weights, weights).ravel() / (2 * np.pi)).ravel()
    scaled = x / 2.5
    columns = []
    for i in range(degree + 1):
        for j in range(degree + 1 - i):
            if i + j:
                p, q = np.eye(degree + 1)[i], np.eye(degree + 1)[j]
                value, slope = np.polynomial.chebyshev.chebval, np.polynomial.chebyshev.chebder
                first = value(scaled[:, 0], slope(p)) * value(scaled[:, 1], q)
                second = value(scaled[:, 0], p) * value(scaled[:, 1], slope(q))
                columns.append(np.concatenate([first, second]))
    root = np.sqrt(np.concatenate([w, w]))
    target = root * field(torch.from_numpy(x)).numpy().T.ravel()  # type: ignore[operator]
    matrix = root[:, None] * np.stack(columns, 1)
    rest = target - matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]
    return float(rest @ rest)


def test_two_spacings_agree_within_the_stated_error(
    ring: GaussianMixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values(spacing: float) -> tuple[float, float]:
        monkeypatch.setattr(helmholtz, "SPACING", spacing)
        grid = _grid(ring)
        part = grid.divergence_free(torch.sin(2 * grid.points.flip(1)))
        return part.product(part)

    (coarse, stated), (fine, _) = values(0.25), values(0.125)
    assert 0 < abs(coarse - fine) < abs(stated)
    assert abs(stated) < 0.01 * fine


def test_a_density_that_the_nodes_cannot_resolve_has_no_value() -> None:
    means = torch.tensor([[0.0, 0.0], [300.0, 200.0]], dtype=torch.float64)
    stds = torch.full_like(means, 0.05)
    law = GaussianMixture(means, stds, torch.tensor([0.5, 0.5], dtype=torch.float64))
    grid = _grid(law, 0.02)
    assert len(grid.points) <= helmholtz.MOST_NODES
    assert np.isnan(_hidden(grid, grid.points))
