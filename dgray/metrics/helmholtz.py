r"""Helmholtz decomposition of a vector field in the plane, weighted by a density.

Every field e with E_p|e|^2 < inf is grad phi + r with div(p r) = 0, and the two parts are
orthogonal under p; phi solves the weighted Poisson equation div(p grad phi) = div(p e).

The solver is a finite-volume method on a regular grid. The unknowns are values of phi at the
nodes. A field is represented by its mean component along each edge between neighbouring nodes, by
interpolation of order four, and an edge has the weight p at its middle. phi minimises the weighted
squares of e - grad phi on the edges, whose normal equations are the five-point scheme. So the
gradient of a smooth function has r = 0 up to the error of the interpolation, and E_p|r|^2 is never
below 0. Its error is of second order in the spacing. It is estimated by the grid of twice the
spacing, whose nodes are every second one, and removed by Richardson extrapolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor

from dgray.diffusion.mixture import ExactLaw

SPACING = 0.25  # in widths of the density
TAIL = 1e-6  # probability outside of the grid
MARGIN = 2.0  # widths between the outermost sample and the border of the grid
MOST_CANDIDATES = 2**20  # nodes of the box around the samples
MOST_NODES = 2**15  # nodes that carry the probability
RESOLVED = 0.02  # largest error of the sum of the probabilities of the edges
WIDTH_SAMPLES = 4096  # samples from which the width is estimated


@dataclass(frozen=True)
class Mesh:
    """Nodes and edges of one grid.

    Attributes:
        nodes: index of each node among the rows of a field, (n,).
        means: maps the two components of a field, one after the other, to means along the edges,
            (E, 2 n).
        slopes: maps values at the nodes to differences per length along the edges, (E, n).
        weights: probability of each edge, (E,); those of one direction sum to about 1.
    """

    nodes: np.ndarray
    means: sparse.csr_array
    slopes: sparse.csr_array
    weights: np.ndarray

    @property
    def is_resolved(self) -> bool:
        """True if the edges of each direction carry the probability."""
        return abs(float(self.weights.sum()) / 2 - 1) < RESOLVED

    @cached_property
    def _solver(self) -> tuple[np.ndarray, SuperLU]:
        """Free nodes, and the factors of their equations; one node of each part is fixed at 0."""
        matrix = (self.slopes.T @ sparse.diags_array(self.weights) @ self.slopes).tocsc()
        parts = csgraph.connected_components(matrix, directed=False)[1]
        free = np.setdiff1d(np.arange(len(parts)), np.unique(parts, return_index=True)[1])
        options = {"SymmetricMode": True}
        inner = matrix[free][:, free].tocsc()
        return free, splu(inner, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)

    def divergence_free(self, field: np.ndarray) -> np.ndarray:
        """Return r along the edges, times the root of their weights, (E,), of a field (N, 2)."""
        means = self.means @ field[self.nodes].T.ravel()
        free, factors = self._solver
        potential = np.zeros(len(self.nodes))
        potential[free] = factors.solve((self.slopes.T @ (self.weights * means))[free])
        return np.asarray(np.sqrt(self.weights) * (means - self.slopes @ potential))


@dataclass(frozen=True)
class DensityGrid:
    """Grid over the probability of a density.

    Attributes:
        points: nodes at which a field is evaluated, (N, 2).
        fine: grid of all nodes.
        coarse: grid of every second node in each direction.
    """

    points: Float[Tensor, "N 2"]
    fine: Mesh
    coarse: Mesh

    def divergence_free(self, field: Float[Tensor, "N 2"]) -> DivergenceFree:
        """Return the divergence-free part of a field at the nodes.

        It is nan if the nodes are too few for the density.
        """
        values = field.double().cpu().numpy()
        if not (self.fine.is_resolved and self.coarse.is_resolved):
            return DivergenceFree(np.full(1, np.nan), np.full(1, np.nan))
        return DivergenceFree(*(m.divergence_free(values) for m in (self.fine, self.coarse)))


@dataclass(frozen=True)
class DivergenceFree:
    """Divergence-free part of a field on both grids, times the roots of the weights."""

    fine: np.ndarray
    coarse: np.ndarray

    @property
    def zero(self) -> DivergenceFree:
        """Part of a field whose divergence-free part is zero."""
        return DivergenceFree(np.zeros_like(self.fine), np.zeros_like(self.coarse))

    def product(self, other: DivergenceFree) -> tuple[float, float]:
        """Return E_p[r . r'] and what the extrapolation added to the value of the fine grid."""
        fine, coarse = float(self.fine @ other.fine), float(self.coarse @ other.coarse)
        change = (fine - coarse) / 3
        return fine + change, change


def density_grid(law: ExactLaw, sigma: float, samples: Float[Tensor, "M 2"]) -> DensityGrid:
    """Return the grid of a distribution at a noise level.

    Args:
        law: exact distribution of points in the plane.
        sigma: noise level, >= 0.
        samples: samples at this noise level.
    """
    some = samples[:WIDTH_SAMPLES]
    score = law.score(some, torch.full_like(some[:, 0], sigma)).double().cpu().numpy()
    # Of a Gaussian the standard deviation; of a mixture the fourth power favours the narrowest.
    width = (np.mean(score**4, 0) / 3) ** -0.25
    ends = samples.double().cpu().numpy()
    low, high = ends.min(0) - MARGIN * width, ends.max(0) + MARGIN * width
    spacing = SPACING * width
    spacing *= max(1.0, np.prod((high - low) / spacing) / MOST_CANDIDATES) ** 0.5
    while True:
        axes = [np.arange(a, b + s, s) for a, b, s in zip(low, high, spacing, strict=True)]
        box = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        density = _density(law, sigma, box, samples)
        ordered = np.sort(density, None)
        inside = density > ordered[np.searchsorted(ordered.cumsum(), TAIL * ordered.sum())]
        if (count := int(inside.sum())) <= MOST_NODES:
            break
        spacing *= 1.1 * (count / MOST_NODES) ** 0.5
    place = np.full(inside.shape, -1)
    place[inside] = np.arange(count)
    meshes = [
        _mesh(law, sigma, [axis[::step] for axis in axes], place[::step, ::step], samples)
        for step in (1, 2)
    ]
    return DensityGrid(torch.from_numpy(box[inside]).to(samples), *meshes)


def _mesh(
    law: ExactLaw, sigma: float, axes: Sequence[np.ndarray], place: np.ndarray, like: Tensor
) -> Mesh:
    """Return the grid of the nodes whose ``place`` among the rows of a field is not -1."""
    index = np.full(place.shape, -1)
    index[place >= 0] = np.arange(count := int((place >= 0).sum()))
    cell = float(np.prod([axis[1] - axis[0] for axis in axes]))
    means, slopes, weights = [], [], []
    for direction in (0, 1):
        padded = np.pad(np.moveaxis(index, direction, 0), ((1, 1), (0, 0)), constant_values=-1)
        four = np.stack([padded[k : len(padded) - 3 + k] for k in range(4)])
        edges = four[:, (four[1] >= 0) & (four[2] >= 0)]
        lines = [axes[direction][:-1] + np.diff(axes[direction]) / 2, axes[1 - direction]]
        middles = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
        middles = middles[(four[1] >= 0) & (four[2] >= 0)][:, :: 1 - 2 * direction]
        weights.append(cell * _density(law, sigma, middles, like))
        means.append(_means(edges, count * direction, 2 * count))
        ends = np.ones(edges.shape[1]) / (axes[direction][1] - axes[direction][0])
        slopes.append(_matrix(edges[1:3], np.stack([-ends, ends]), count))
    return Mesh(
        nodes=place[place >= 0],
        means=sparse.vstack(means, "csr"),
        slopes=sparse.vstack(slopes, "csr"),
        weights=np.concatenate(weights),
    )


def _means(edges: np.ndarray, first: int, columns: int) -> sparse.csr_array:
    """Return the mean of the cubic through four nodes in a row between the inner two of them.

    At the border, where an outer node is missing, it is the mean of the inner two.
    """
    cubic = np.array([-1, 13, 13, -1])[:, None] / 24
    linear = np.array([0, 1, 1, 0])[:, None] / 2
    return _matrix(edges + first, np.where((edges >= 0).all(0), cubic, linear), columns)


def _matrix(nodes: np.ndarray, values: np.ndarray, columns: int) -> sparse.csr_array:
    """Return the matrix whose row e has ``values[:, e]`` in the columns ``nodes[:, e]``."""
    rows = np.broadcast_to(np.arange(nodes.shape[1]), nodes.shape)
    entries = values != 0
    return sparse.csr_array(
        (values[entries], (rows[entries], nodes[entries])), (nodes.shape[1], columns)
    )


def _density(law: ExactLaw, sigma: float, points: np.ndarray, like: Tensor) -> np.ndarray:
    """Return p at points of shape (..., 2), in float64."""
    x = torch.from_numpy(np.ascontiguousarray(points)).to(like)
    log_prob = law.log_prob(x, torch.full_like(x[..., 0], sigma))
    return np.asarray(log_prob.double().exp().cpu().numpy())
