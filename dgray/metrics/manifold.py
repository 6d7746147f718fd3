r"""Fidelity and diversity of generated features, from nearest neighbours.

The manifold of a set is the union of balls around its points, each with the distance of the
point's k-th neighbour in the set as radius.

- precision: share of generated features on the reference's manifold; recall: share of reference
  features on the generated one (Kynkaanniemi et al. 2019, arXiv 1904.06991, Eq. 1 and 2; k = 3);
- density: mean number of reference balls around a generated feature, divided by k; may exceed 1;
  coverage: share of reference balls with a generated feature inside (Naeem et al. 2020, arXiv
  2002.09797, Eq. 3 and 4; k = 5).

Balls are closed. All four depend on both numbers of samples: compare at equal numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dgray.metrics.distances import check_points, distance_blocks
from dgray.metrics.estimate import GROUPS, Estimate, group_estimate, group_of

PRECISION_NEIGHBOURS = 3  # as in Kynkaanniemi et al. 2019
DENSITY_NEIGHBOURS = 5  # as in Naeem et al. 2020


@dataclass(frozen=True)
class ManifoldScores:
    """Precision, recall, density and coverage, with errors over the generated samples."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifold_scores(
    generated: Float[Tensor, "m d"],
    reference: Float[Tensor, "n d"],
    *,
    precision_neighbours: int = PRECISION_NEIGHBOURS,
    density_neighbours: int = DENSITY_NEIGHBOURS,
) -> ManifoldScores:
    """Return precision, recall, density and coverage from one pass over all distances.

    Args:
        generated: features of generated images.
        reference: features of data.
        precision_neighbours: k of precision and recall.
        density_neighbours: k of density and coverage.

    Raises:
        MetricError: if shapes disagree, features are not finite, or there are too few: both sets
            need more than either k, also without a group of the jackknife.
    """
    check_points(reference, generated, 2 * max(precision_neighbours, density_neighbours) + 2)
    near = _radii(reference, [precision_neighbours, density_neighbours])
    reached = _left_out_radii(generated, precision_neighbours)
    inside, balls = [], []
    covered = reached.new_zeros((1 + GROUPS, len(reference)), dtype=torch.bool)
    closest = reached.new_full((GROUPS, len(reference)), torch.inf)
    for rows, squared in distance_blocks(generated, reference):
        inside.append((squared <= near[0]).any(1))
        balls.append((squared <= near[1]).sum(1).double())
        covered |= torch.stack([(squared <= radii[rows, None]).any(0) for radii in reached])
        closest = torch.minimum(closest, _closest_of_groups(squared, rows))
    return ManifoldScores(
        precision=Estimate.of(torch.cat(inside)),
        recall=_group_shares(covered),
        density=Estimate.of(torch.cat(balls) / density_neighbours),
        coverage=_group_shares(_without_each(closest) <= near[1]),
    )


def _radii(points: Tensor, neighbours: list[int]) -> Tensor:
    """Return the squared distance of each point to its k-th neighbours, (len(neighbours), n)."""
    radii = []
    for rows, squared in distance_blocks(points, points):
        _hide_self(squared, rows)
        smallest = squared.topk(max(neighbours), largest=False).values
        radii.append(torch.stack([smallest[:, k - 1] for k in neighbours]))
    return torch.cat(radii, dim=1)


def _left_out_radii(points: Tensor, k: int) -> Tensor:
    """Return ``_radii`` for one k, among all points, then without each group; (1 + GROUPS, n).

    A point of the left-out group has radius -1, an empty ball.
    """
    group = group_of(len(points), points.device)
    columns = [torch.nonzero(group == index).squeeze(1) for index in range(GROUPS)]
    parts = []
    for rows, squared in distance_blocks(points, points):
        _hide_self(squared, rows)
        # The k nearest of each group hold the k nearest of any union of groups.
        near = [squared[:, c].topk(min(k, len(c)), largest=False).values for c in columns]
        kept = [near, *(near[:index] + near[index + 1 :] for index in range(GROUPS))]
        parts.append(torch.stack([torch.cat(part, 1).kthvalue(k).values for part in kept]))
    radii = torch.cat(parts, dim=1)
    for index in range(GROUPS):
        radii[1 + index, columns[index]] = -1
    return radii


def _hide_self(squared: Tensor, rows: slice) -> None:
    """Exclude each point from its own neighbours."""
    squared[:, rows].fill_diagonal_(torch.inf)


def _closest_of_groups(squared: Tensor, rows: slice) -> Tensor:
    """Return the smallest distance of each group of the rows to each column, (GROUPS, n)."""
    member = torch.arange(rows.start, rows.stop, device=squared.device) % GROUPS
    padded = squared.new_full((GROUPS, squared.shape[1]), torch.inf)
    return padded.scatter_reduce(0, member[:, None].expand_as(squared), squared, "amin")


def _without_each(closest: Tensor) -> Tensor:
    """Return the smallest over all groups, then over all but each; (1 + GROUPS, n)."""
    two, first = closest.topk(2, dim=0, largest=False)
    index = torch.arange(GROUPS, device=closest.device)[:, None]
    return torch.cat([two[:1], torch.where(first[0] == index, two[1], two[0])])


def _group_shares(hit: Tensor) -> Estimate:
    """Return the share of hits, bool (1 + GROUPS, n), with the jackknife error."""
    value, *left_out = hit.double().mean(1).tolist()
    return group_estimate(value, left_out)
