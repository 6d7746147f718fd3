"""Annotated shapes are checked in tests."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from dgray.data.mixtures import ring8
from dgray.diffusion.mixture import GaussianMixture


@pytest.mark.parametrize(
    ("x", "sigma"),
    [
        (torch.zeros(5, 2), torch.ones(4)),
        (torch.zeros(5, 2), torch.ones(5, 1)),
        (torch.zeros(5, 2, dtype=torch.int64), torch.ones(5)),
    ],
)
def test_wrong_shapes_and_types_are_refused(x: torch.Tensor, sigma: torch.Tensor) -> None:
    with pytest.raises(TypeCheckError):
        ring8().score(x, sigma)


def test_fields_of_dataclasses_are_checked_together() -> None:
    with pytest.raises(TypeCheckError, match="stds"):
        GaussianMixture(torch.zeros(3, 2), torch.ones(3, 1), torch.ones(3) / 3)


@pytest.mark.usefixtures("unchecked_shapes")
def test_checks_can_be_turned_off() -> None:
    with pytest.raises(ValueError, match="means and stds"):
        GaussianMixture(torch.zeros(3, 2), torch.ones(3, 1), torch.ones(3) / 3)
