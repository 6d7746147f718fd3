"""Kernel distance: by hand, against clean-fid and torch-fidelity, its bias and its error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dgray.metrics.kid import kernel_distance


def normal(count: int, dimension: int, seed: int, scale: float = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, dimension, generator=generator)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def squared_mmd(reference: Tensor, generated: Tensor) -> float:
    """Unbiased estimate from all pairs, written from the definition."""
    x, y = reference.double(), generated.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def mean_of_pairs(a: Tensor) -> Tensor:
        return kernel(a, a).fill_diagonal_(0).sum() / (len(a) * (len(a) - 1))

    return float(mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel(x, y).mean())


def test_three_points_by_hand() -> None:
    """In one dimension, k(a, b) = (a b + 1)^3."""
    reference, generated = (
        torch.tensor([[0.0], [1.0], [1.0]]),
        torch.tensor([[1.0], [2.0], [-1.0]]),
    )
    within_reference = (1 + 1 + 8) / 3
    within_generated = (27 + 0 - 1) / 3  # k(1, 2), k(1, -1), k(2, -1)
    between = (1 + 1 + 1 + 2 * (8 + 27 + 0)) / 9
    expected = within_reference + within_generated - 2 * between
    assert squared_mmd(reference, generated) == pytest.approx(expected, rel=1e-14)
    estimate = kernel_distance(generated, reference, generator=rng())
    assert estimate.value == pytest.approx(expected, rel=1e-14)


def test_it_is_cleanfids_for_the_same_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    from cleanfid.fid import kernel_distance as reference

    x, y = normal(300, 16, 0), normal(250, 16, 1, 1.2)
    drawn = rng(5)
    monkeypatch.setattr("numpy.random.choice", drawn.choice)
    # Its second set is drawn first.
    expected = reference(y.double().numpy(), x.double().numpy(), num_subsets=7, max_subset_size=90)
    estimate = kernel_distance(y, x, generator=rng(5), num_subsets=7, subset_size=90)
    assert estimate.value == pytest.approx(expected, rel=1e-10)


def test_it_is_torch_fidelitys() -> None:
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = normal(200, 16, 0), normal(200, 16, 1, 1.2)
    options = {
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
    }
    expected = kernel_mmd(x.double().numpy(), y.double().numpy(), **options)
    assert squared_mmd(x, y) == pytest.approx(expected, rel=1e-10)
    assert kernel_distance(y, x, generator=rng()).value == pytest.approx(expected, rel=1e-10)


def test_it_is_unbiased_at_any_number_and_its_error_is_its_spread() -> None:
    reference = normal(2000, 4, 0)
    # The mean over generated sets is the distance to a very large one.
    expected = squared_mmd(reference, normal(4000, 4, 1, 1.5))
    values, errors = [], []
    for seed in range(60):
        generated = normal(100, 4, 100 + seed, 1.5)
        estimate = kernel_distance(
            generated, reference[:400], generator=rng(seed), num_subsets=4, subset_size=100
        )
        values.append(estimate.value)
        errors.append(estimate.se)
    spread = np.std(values, ddof=1)
    fixed = squared_mmd(reference[:400], normal(4000, 4, 1, 1.5))
    assert np.mean(values) == pytest.approx(fixed, abs=4 * spread / np.sqrt(60))
    assert np.mean(errors) == pytest.approx(spread, rel=0.35)
    assert expected > 4 * spread / np.sqrt(60)


def test_equal_laws_are_at_zero_on_average() -> None:
    values = [
        kernel_distance(normal(50, 3, 1000 + seed), normal(50, 3, seed), generator=rng()).value
        for seed in range(200)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    assert min(values) < 0


def test_it_is_a_function_of_the_generator() -> None:
    x, y = normal(300, 8, 0), normal(300, 8, 1)
    one, same, other = (
        kernel_distance(y, x, generator=rng(seed), num_subsets=3, subset_size=50)
        for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (normal(9, 3, 0), normal(9, 4, 0), {}, r"\(9, 3\) and \(9, 4\)"),
        (normal(1, 3, 0), normal(9, 3, 0), {}, "at least 2 samples"),
        (normal(9, 3, 0), normal(9, 3, 0) * torch.nan, {}, "finite"),
        (normal(9, 3, 0), normal(9, 3, 0), {"subset_size": 1}, "subset_size >= 2"),
        (normal(9, 3, 0), normal(9, 3, 0), {"num_subsets": 0}, "num_subsets >= 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    x: Tensor, y: Tensor, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance(y, x, generator=rng(), **options)
