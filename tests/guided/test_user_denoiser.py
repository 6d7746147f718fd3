"""Denoisers of users: their derivatives, arguments and modes."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgray
from dgray.errors import GuidedModelError
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.user_denoiser import wrap_denoiser
from tests.guided.normal import denoise, points


def partly(denoised: Tensor, x: Tensor) -> Tensor:
    """Return the values of a denoiser with the derivative of the skip connection x / 2."""
    return x / 2 + (denoised - x / 2).detach()


@pytest.mark.parametrize(
    "denoiser",
    [
        torch.no_grad()(denoise),
        torch.inference_mode()(denoise),
        lambda x, sigma: partly(denoise(x, sigma), x),
        dgray.from_epsilon(torch.no_grad()(lambda x, s: x * (s / (1 + s**2))[:, None])),
        lambda x, sigma: denoise(x, sigma) + 0.1 * torch.randn_like(x),
    ],
)
def test_a_likelihood_of_a_denoiser_without_its_derivative_is_refused(
    denoiser: Any, discriminator: SampleDiscriminator
) -> None:
    model = dgray.guide(denoiser, discriminator)
    assert model.sample(2, num_steps=4).isfinite().all()
    with pytest.raises(
        GuidedModelError, match=r"without torch\.no_grad, inference_mode or detach"
    ):
        model.nll(points(4, 0))


def memorised(x: Tensor, sigma: Tensor) -> Tensor:
    """Denoise the distribution of four points, whose derivative has narrow peaks."""
    corners = 100 * torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    distance = (x[:, None] - corners).square().sum(-1)
    return torch.softmax(-distance / (2 * sigma[:, None] ** 2), -1) @ corners


@pytest.mark.parametrize(
    "denoiser",
    [
        lambda x, sigma: torch.zeros_like(x),
        lambda x, sigma: x.relu() / (1 + sigma[:, None]),
        memorised,
        dgray.wrap_denoiser(denoise, (2,), dtype=torch.bfloat16),
    ],
)
def test_derivatives_of_unusual_denoisers_are_accepted(denoiser: Any) -> None:
    real, sigmas = (points(10, 0), (0.5, 2.0))
    if denoiser is memorised:
        real, sigmas = 100 * real, (30.0, 300.0)
    fitted = dgray.fit_discriminator(real, denoiser, sigmas=sigmas, epochs=1)
    nll = dgray.guide(denoiser, fitted, 0.0).nll(real[:4], tolerance=1.0)
    assert math.isfinite(nll.value)


def test_the_samples_of_a_caller_are_not_changed() -> None:
    def in_place(x: Tensor, sigma: Tensor) -> Tensor:
        return x.div_(1 + sigma.pow_(2)[:, None])

    x, sigma = points(3, 0).double(), torch.full((3,), 2.0, dtype=torch.float64)
    wrapped = dgray.wrap_denoiser(in_place, (2,), dtype=torch.float64)
    torch.testing.assert_close(wrapped(x, sigma), denoise(x, sigma))
    assert torch.equal(x, points(3, 0).double())
    assert torch.equal(sigma, torch.full((3,), 2.0, dtype=torch.float64))


def test_a_module_with_active_dropout_is_refused_and_without_it_is_not() -> None:
    class Denoiser(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return denoise(self.layer(x), sigma)

    module = Denoiser(nn.Dropout(0.5))
    with pytest.raises(GuidedModelError, match=r"layer layer \(Dropout\) .* call eval\(\)"):
        dgray.wrap_denoiser(module, (2,))
    dgray.wrap_denoiser(module.eval(), (2,))
    dgray.wrap_denoiser(Denoiser(nn.Identity()), (2,))


def test_a_wrapped_denoiser_can_be_copied_and_stored() -> None:
    wrapped = wrap_denoiser(denoise, (2,))
    x, sigma = points(3, 0).double(), torch.ones(3, dtype=torch.float64)
    expected = wrapped.with_divergence(x, sigma)[1]
    for again in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert torch.equal(again.with_divergence(x, sigma)[1], expected)
