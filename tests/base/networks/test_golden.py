"""EDM's own numbers: a denoiser and its gradient, for both forms of SongUNet."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from dgray.base.networks.image_denoiser import NetworkDenoiser
from tests.base.networks.network_cases import Golden


def labels_of(golden: Golden) -> Tensor:
    return torch.full((8,), -1) if golden.one_hot is None else golden.one_hot.argmax(1)


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Return the largest error of an image, relative to its largest value."""
    difference = (value - expected).abs().amax((1, 2, 3))
    return float((difference / expected.abs().amax((1, 2, 3))).max())


def test_state_dict_has_edms_names_in_edms_order(golden: Golden) -> None:
    assert list(golden.architecture.build().state_dict()) == list(golden.state)


def test_parameters_are_counted(golden: Golden) -> None:
    count = sum(weight.numel() for weight in golden.module.parameters())
    assert count == golden.record["parameters"]


def test_denoised_images_and_their_gradient(golden: Golden) -> None:
    x = golden.x.clone().requires_grad_()
    denoised = golden.module(x, golden.sigma, golden.one_hot)
    (gradient,) = torch.autograd.grad((denoised**2).sum(), x)
    assert relative_error(denoised.detach(), golden.denoised) < 1e-5
    assert relative_error(gradient, golden.gradient) < 1e-5


def test_denoiser_of_vectors(golden: Golden) -> None:
    shape, num_classes = golden.architecture.shape, golden.architecture.num_classes
    denoise = NetworkDenoiser(golden.module, shape, num_classes).with_labels(labels_of(golden))
    x = golden.x.flatten(1).double().reshape(2, 4, -1)
    with torch.no_grad():
        denoised = denoise.with_labels(labels_of(golden).reshape(2, 4))(
            x, golden.sigma.reshape(2, 4)
        )
    assert denoised.dtype == torch.float64
    assert relative_error(denoised.reshape(golden.x.shape).float(), golden.denoised) < 1e-5


def test_labels_matter(golden: Golden) -> None:
    if golden.one_hot is None:
        with torch.no_grad():
            denoised = golden.module(golden.x, golden.sigma, torch.ones(8, 10))
        assert relative_error(denoised, golden.denoised) < 1e-5
        return
    with torch.no_grad():
        none = golden.module(golden.x, golden.sigma)
    assert relative_error(none, golden.denoised) > 1e-3


def test_architecture_survives_json(golden: Golden) -> None:
    again = golden.architecture.to_json()
    assert again["init_kwargs"] == golden.record["init_kwargs"]
    assert again["preconditioning"] == golden.record["preconditioning"]
    assert_close(golden.module.coefficients(torch.ones(1)).noise, torch.zeros(1))
