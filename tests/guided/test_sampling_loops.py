"""Guided denoisers in the sampling loops of EDM and k-diffusion, written out independently."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dgray
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.errors import GuidedModelError


def normal(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
    """Denoise N(label / 2, 1/4), or N(0, 1/4) without a class."""
    mean = 0.0 if labels is None else labels.clamp(min=0).reshape(-1, 1, 1, 1) / 2
    variance = sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2
    return mean + (x - mean) / (1 + 4 * variance)


@pytest.fixture(scope="module")
def guided() -> dgray.GuidedDenoiser:
    """Conditional model of images."""
    real = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    denoiser = dgray.wrap_denoiser(normal, (1, 4, 4), num_classes=3, dtype=torch.float64)
    discriminator = dgray.fit_discriminator(
        real,
        denoiser,
        sigmas=(0.05, 10.0),
        discriminator={"width": 2, "conditional": True},
        labels=torch.arange(24) % 3,
        epochs=3,
        batch_size=8,
        learning_rate=0.02,
    )
    return dgray.guide(denoiser, discriminator)


def edm_sampler(
    net: Any, latents: Tensor, class_labels: Tensor | None, num_steps: int, rho: float = 7.0
) -> Tensor:
    """Heun's method as in Karras et al. 2022, Algorithm 1, with the calls of EDM's generate.py."""
    i = np.arange(num_steps)
    low, high = net.sigma_min ** (1 / rho), net.sigma_max ** (1 / rho)
    times = torch.as_tensor((high + i / (num_steps - 1) * (low - high)) ** rho)
    times = torch.cat([net.round_sigma(times), torch.zeros(1)])
    x = latents.to(torch.float64) * times[0]
    for k in range(num_steps):
        slope = (x - net(x, times[k], class_labels).to(torch.float64)) / times[k]
        moved = x + (times[k + 1] - times[k]) * slope
        if k < num_steps - 1:
            ahead = net(moved, times[k + 1], class_labels).to(torch.float64)
            slope = (slope + (moved - ahead) / times[k + 1]) / 2
            moved = x + (times[k + 1] - times[k]) * slope
        x = moved
    return x


def k_euler(model: Callable[..., Tensor], x: Tensor, sigmas: Tensor, extra: Any) -> Tensor:
    """Euler's method as in k-diffusion: model(x, sigma * s_in, **extra_args)."""
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * s_in, **extra)
        d = (x - denoised) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
    return x


def k_ancestral(model: Callable[..., Tensor], x: Tensor, sigmas: Tensor, noise: Tensor) -> Tensor:
    """Ancestral Euler method as in k-diffusion, with eta = 1."""
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones([len(x)]))
        up = min(
            float(sigmas[i + 1]),
            float((sigmas[i + 1] ** 2 * (1 - sigmas[i + 1] ** 2 / sigmas[i] ** 2)) ** 0.5),
        )
        down = (float(sigmas[i + 1]) ** 2 - up**2) ** 0.5
        x = x + (x - denoised) / sigmas[i] * (down - sigmas[i]) + up * noise[i]
    return x


def test_edms_sampler_gives_the_samples_of_the_guided_denoiser(
    guided: dgray.GuidedDenoiser,
) -> None:
    net = dgray.EdmNetwork(guided)
    assert (net.img_channels, net.img_resolution, net.label_dim) == (1, 4, 3)
    latents = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 1, -1])
    one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), 3) * (labels >= 0)[:, None]
    samples = edm_sampler(net, latents, one_hot.float(), num_steps=7)
    sigmas = karras_sigmas(7, 0.05, 10.0)
    start = 10.0 * latents.flatten(1).double()
    expected = heun(guided.flat(labels), start, sigmas)
    torch.testing.assert_close(samples.flatten(1), expected, rtol=1e-6, atol=1e-7)
    unguided = edm_sampler(
        dgray.EdmNetwork(guided.with_weight(0)), latents, one_hot.float(), num_steps=7
    )
    assert (samples - unguided).abs().max() > 0.01


def test_k_diffusions_samplers_call_the_guided_denoiser(guided: dgray.GuidedDenoiser) -> None:
    x = 10 * torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    sigmas, labels = karras_sigmas(6, 0.05, 10.0).float(), torch.tensor([2, 0, 1])
    samples = k_euler(guided, x, sigmas, {"labels": labels})
    assert samples.dtype == torch.float32
    assert guided(x.half(), 1.0).dtype == torch.float16
    flat, bound = x.flatten(1).double(), guided.flat(labels)
    for sigma, following in itertools.pairwise(sigmas):
        level = sigma.double().expand(3)
        flat = flat + (following - sigma) * (flat - bound(flat, level)) / sigma
    torch.testing.assert_close(samples.flatten(1).double(), flat, rtol=1e-4, atol=1e-5)


def test_k_diffusions_ancestral_sampler_is_the_reverse_sde(guided: dgray.GuidedDenoiser) -> None:
    generator = torch.Generator().manual_seed(3)
    x = 10 * torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(6, 3, 1, 4, 4, generator=generator, dtype=torch.float64)
    sigmas = karras_sigmas(6, 0.05, 10.0)
    samples = k_ancestral(guided, x, sigmas, noise)
    from dgray.diffusion.sampler import reverse_sde

    expected = reverse_sde(guided.flat(), x.flatten(1), sigmas, noise.flatten(2))
    torch.testing.assert_close(samples.flatten(1), expected, rtol=1e-6, atol=1e-7)


def test_epsilon_conventions_are_inverse(guided: dgray.GuidedDenoiser) -> None:
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    eps = guided.epsilon(x, sigma)
    torch.testing.assert_close(x - sigma.reshape(-1, 1, 1, 1) * eps, guided(x, sigma))
    denoise = dgray.from_epsilon(guided.epsilon)
    torch.testing.assert_close(denoise(x, sigma), guided(x, sigma))
    labels = torch.tensor([0, 1, 2])
    torch.testing.assert_close(denoise(x, sigma, labels), guided(x, sigma, labels))


def test_outside_its_noise_range_a_model_is_its_base(guided: dgray.GuidedDenoiser) -> None:
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    for sigma in (0.04, 11.0, 0.0):
        level = torch.full((2,), sigma, dtype=torch.float64)
        torch.testing.assert_close(guided(x, level), normal(x, level), rtol=0, atol=0)
    ends = guided(x.float(), torch.tensor([0.05, 10.0]))  # float32, rounded to below 0.05
    assert (ends != guided.with_weight(0)(x.float(), torch.tensor([0.05, 10.0]))).flatten(1).any(
        1
    ).tolist() == [True, True]


def test_wrong_calls_are_refused_in_one_line(guided: dgray.GuidedDenoiser) -> None:
    for call, message in (
        (lambda: guided(torch.zeros(2, 16), 1.0), r"shape \(n, 1, 4, 4\), but got \(2, 16\)"),
        (lambda: guided(torch.zeros(3, 1, 4, 4), torch.ones(2)), r"have shape \(3,\)"),
        (lambda: guided.sample(3, seeds=[1, 2]), "one for each of the 3 samples"),
        (lambda: guided.sample(1, seeds=-1), ">= 0"),
        (lambda: guided.sample(0), "at least one sample"),
        (lambda: dgray.guide(lambda x, s: x[0], as_of(guided)).sample(2), "of the shape of x"),
    ):
        with pytest.raises(GuidedModelError, match=message):
            call()


def as_of(guided: dgray.GuidedDenoiser) -> Any:
    from dgray.guided.discriminator import SampleDiscriminator

    return SampleDiscriminator(guided.discriminator, guided.space)
