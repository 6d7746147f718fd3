r"""Kernel distance of two sets of features (KID, Binkowski et al. 2018, arXiv 1801.01401).

The squared maximum mean discrepancy with the kernel k(a, b) = (a.b / d + 1)^3, estimated without
bias: the mean of k over pairs of different generated features, plus that over pairs of different
reference features, minus twice that over pairs of one of each. Its expectation is 0 for equal
distributions at any n, where it is often negative. As published, it is averaged over random
subsets, which bounds the cost at large n.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from dgray.errors import MetricError
from dgray.metrics.distances import check_points
from dgray.metrics.estimate import GROUPS, Estimate, group_estimate, group_of


def kernel_distance(
    generated: Float[Tensor, "m d"],
    reference: Float[Tensor, "n d"],
    *,
    generator: np.random.Generator,
    num_subsets: int = 100,
    subset_size: int = 1000,
) -> Estimate:
    """Return the KID: the mean over random subsets of both sets, drawn without replacement.

    The error is over the generated samples: the jackknife leaves a group out of every subset. The
    spread of subsets, often reported instead, is the error of ``subset_size`` samples, not of all.

    Args:
        generated: features, m >= 2.
        reference: features, n >= 2.
        generator: draws each subset of the reference, then that of the generated features.
        num_subsets: number of subsets; 1 is used where a subset is a whole set.
        subset_size: largest size of a subset.

    Raises:
        MetricError: if shapes disagree, features are not finite, or fewer than two can be drawn.
    """
    check_points(reference, generated, 2)
    size = min(len(reference), len(generated), subset_size)
    if size < 2 or num_subsets < 1:
        raise MetricError(
            "subset_size >= 2 and num_subsets >= 1 must hold, but got "
            f"{subset_size} and {num_subsets}"
        )
    if size == len(reference) == len(generated):
        num_subsets = 1
    groups = group_of(len(generated), generated.device)
    total = torch.zeros(1 + GROUPS, dtype=torch.float64)
    for _ in range(num_subsets):
        x = torch.from_numpy(generator.choice(len(reference), size, replace=False))
        y = torch.from_numpy(generator.choice(len(generated), size, replace=False))
        total += _group_values(reference[x], generated[y], groups[y]).cpu()
    value, *left_out = (total / num_subsets).tolist()
    return group_estimate(value, left_out)


def _group_values(
    reference: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], group: Int64[Tensor, "m"]
) -> Float64[Tensor, "values"]:
    """Return the estimate of all features, then without each generated group, (1 + GROUPS,)."""
    x, y = reference.double(), generated.double()
    member = F.one_hot(group, GROUPS).double()  # (m, GROUPS)
    within_x = _mean_of_different(_kernel(x, x))
    pairs = _kernel(y, y).fill_diagonal_(0)
    between = member.T @ pairs @ member  # sums of k by groups
    cross = member.T @ _kernel(y, x).mean(1)
    sizes = member.sum(0)
    # A left-out group removes its pairs with itself and, in both orders, with the others.
    pair_sums = between.sum() - torch.cat(
        [between.new_zeros(1), between.sum(0) + between.sum(1) - between.diagonal()]
    )
    cross_sums = cross.sum() - torch.cat([cross.new_zeros(1), cross])
    kept = sizes.sum() - torch.cat([sizes.new_zeros(1), sizes])
    return within_x + pair_sums / (kept * (kept - 1)) - 2 * cross_sums / kept


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_of_different(kernel: Tensor) -> Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
