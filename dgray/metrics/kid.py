r"""The kernel distance of two sets of features (KID, Binkowski et al. 2018, arXiv 1801.01401).

The squared maximum mean discrepancy with the kernel k(a, b) = (a.b / d + 1)^3, estimated without
bias: the mean of k over pairs of different generated features, and that of different reference
features, minus twice that of one of each. Its expectation is 0 for equal laws at any n, so it is
often negative then. Averaged over random subsets, as published, which bounds the cost at large n.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dgray.metrics.distances import check_points
from dgray.metrics.estimate import Estimate
from dgray.metrics.jackknife import GROUPS, group_estimate, group_of


def squared_mmd(reference: Tensor, generated: Tensor) -> float:
    """The unbiased estimate from all pairs, shapes (n, d) and (m, d), n, m >= 2."""
    check_points(reference, generated, 2)
    return float(_group_values(reference, generated, group_of(len(generated)))[0])


def kernel_distance(
    reference: Tensor,
    generated: Tensor,
    *,
    generator: np.random.Generator,
    num_subsets: int = 100,
    subset_size: int = 1000,
) -> Estimate:
    """KID: the mean of ``squared_mmd`` over random subsets of either set, drawn without repeats.

    The error is over the generated samples (``dgray.metrics.jackknife``): a group is left out of
    every subset that it is in. The spread of subsets, which is often given instead, is that of
    1,000 samples, not of all.

    Args:
        reference: features, shape (n, d), n >= 2.
        generated: features, shape (m, d), m >= 2.
        generator: draws the subsets: of the reference, then of the generated ones.
        num_subsets: how many; one is enough, and used, where a subset is everything.
        subset_size: at most this many of either, fewer if there are fewer.
    """
    check_points(reference, generated, 2)
    size = min(len(reference), len(generated), subset_size)
    if size < 2 or num_subsets < 1:
        raise ValueError(
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


def _group_values(reference: Tensor, generated: Tensor, group: Tensor) -> Tensor:
    """The estimate with everything, then without each group of the generated; (1 + GROUPS,)."""
    x, y = reference.double(), generated.double()
    member = F.one_hot(group, GROUPS).double()  # (m, GROUPS)
    within_x = _mean_of_different(_kernel(x, x))
    pairs = _kernel(y, y).fill_diagonal_(0)
    between = member.T @ pairs @ member  # sums of k by groups
    cross = member.T @ _kernel(y, x).mean(1)
    sizes = member.sum(0)
    # Left out: the pairs of a group with itself and, in both orders, with the others.
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
