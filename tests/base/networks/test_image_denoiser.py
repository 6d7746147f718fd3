"""Preconditioning and the denoiser of vectors: closed forms, divergences, labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.preconditioning import (
    EDMPrecond,
    EncoderFeatures,
    Preconditioned,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
)
from dgray.correction.guidance import guided_denoiser
from dgray.correction.weight import ConstantWeight
from dgray.diffusion.denoiser import ChunkedDenoiser, Conditional, Denoiser
from dgray.diffusion.sampler import edm_stochastic, sampler_sigmas
from dgray.discriminator.discriminator import ZeroDiscriminator
from tests.base.networks.network_cases import tiny

SIGMA = torch.tensor([0.002, 0.05, 0.5, 1.7, 80.0])


class Spy(nn.Module):
    """A raw network that returns its input and remembers its noise labels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.noise = torch.empty(0)

    def forward(self, x: Tensor, noise: Tensor, labels: object, augment: object) -> Tensor:
        self.noise = noise
        return torch.cat([x, 100 + x], 1)[:, : self.channels]


def scale(module: Preconditioned) -> Tensor:
    """D(1; sigma) of a module around ``Spy``."""
    with torch.no_grad():
        return module(torch.ones(5, 1, 1, 1), SIGMA).flatten()


def test_edm() -> None:
    spy = Spy(1)
    denoised = scale(EDMPrecond(spy))
    total = SIGMA**2 + 0.25
    assert_close(denoised, 0.25 / total + SIGMA * 0.5 / total)
    assert_close(spy.noise, SIGMA.log() / 4)


def test_vp_time_is_that_of_the_forward_process() -> None:
    spy = Spy(1)
    module = VPPrecond(spy)
    assert_close(scale(module), 1 - SIGMA / (1 + SIGMA**2).sqrt())
    time = spy.noise.double() / 999
    again = torch.expm1(0.5 * 19.9 * time**2 + 0.1 * time).sqrt()
    # below, ln(1 + sigma^2) has few digits in float32, EDM's too
    assert_close(again.float()[1:], SIGMA[1:], rtol=1e-4, atol=0)
    assert_close(module.sigma_max, 152.2, rtol=1e-3, atol=0)  # Karras et al. 2022, C.1
    assert_close(module.sigma_min, 0.001, rtol=1e-2, atol=0)


def test_ve() -> None:
    spy = Spy(1)
    assert_close(scale(VEPrecond(spy)), 1 + SIGMA)
    assert_close(spy.noise, (SIGMA / 2).log())


def test_iddpm_takes_the_nearest_of_its_levels() -> None:
    spy = Spy(2)
    module = iDDPMPrecond(spy)
    assert_close(scale(module), 1 - SIGMA / (1 + SIGMA**2).sqrt())  # no variance in it
    assert module.u.shape == (1001,)
    assert float(module.u[-1]) == 0
    assert bool((module.u[:-1] > module.u[1:]).all())
    # the cosine schedule, where no ratio is clipped: 1 + u_j^2 = alpha_bar_M / alpha_bar_j
    steps = torch.arange(500, 1000, dtype=torch.float64)
    alpha_bar = (0.5 * math.pi * steps / 1000 / 1.008).sin() ** 2
    end = math.sin(0.5 * math.pi / 1.008) ** 2
    assert_close(module.u[500:1000].double() ** 2, end / alpha_bar - 1, rtol=1e-5, atol=1e-9)
    index = 999 - spy.noise.long()
    nearest = [min(range(1001), key=lambda j: abs(float(module.u[j] - s))) for s in SIGMA]
    assert index.tolist() == nearest
    assert_close(float(module.u[8]), 80.0, rtol=2e-2, atol=0)  # Karras et al. 2022: 80 at j0 = 8


def edms_levels(module: Preconditioned, num_steps: int) -> Tensor:
    """``t_steps`` of ``edm_sampler`` in EDM's generate.py for sigma in [0.002, 80], but the 0."""
    low, high = max(0.002, module.sigma_min) ** (1 / 7), min(80.0, module.sigma_max) ** (1 / 7)
    index = torch.arange(num_steps, dtype=torch.float64)
    levels = (high + index / (num_steps - 1) * (low - high)) ** 7
    if not isinstance(module, iDDPMPrecond):
        return levels
    distances = (levels.float()[:, None] - module.u[None]).abs()
    return module.u[distances.argmin(1)].double()


@pytest.mark.parametrize("wrap", [lambda denoiser: denoiser, lambda d: ChunkedDenoiser(d, 4)])
@pytest.mark.parametrize("kind", ["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_samplers_use_the_noise_levels_that_edm_would(
    kind: str, wrap: Callable[[NetworkDenoiser], Denoiser]
) -> None:
    module = tiny(preconditioning=kind)
    base = wrap(NetworkDenoiser(module, (2, 8, 8)))
    guided = guided_denoiser(base, ZeroDiscriminator(), ConstantWeight(1.0))
    for denoiser in (base, guided):
        sigmas = sampler_sigmas(denoiser, 18, (0.002, 80.0), 7.0)
        assert_close(sigmas[:-1], edms_levels(module, 18), rtol=1e-12, atol=0)
        assert float(sigmas[-1]) == 0


def test_churn_raises_the_noise_to_a_level_of_the_network() -> None:
    module = tiny(preconditioning="iDDPMPrecond")
    levels_called: list[float] = []

    class Recording(NetworkDenoiser):
        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            levels_called.extend(sigma.tolist())
            return torch.zeros_like(x)

    base = Recording(module, (2, 8, 8))
    sigmas = sampler_sigmas(base, 6, (0.002, 80.0), 7.0)
    noise = torch.randn(6, 1, 128, dtype=torch.float64)
    edm_stochastic(base, 80 * noise[0], sigmas, noise, S_churn=5, S_min=0, S_max=99, S_noise=1)
    assert len(levels_called) == 11
    assert module.levels.table is not None
    assert set(levels_called) <= set(module.levels.table.double().tolist())


def test_everything_is_float32_on_the_cpu() -> None:
    spy = Spy(1)
    module = EDMPrecond(spy, use_fp16=True)
    denoised = module(torch.ones(5, 1, 1, 1, dtype=torch.float64), SIGMA.double())
    assert denoised.dtype == spy.noise.dtype == torch.float32


def denoiser(**options: object) -> NetworkDenoiser:
    label_dim = options.get("label_dim", 0)
    module = tiny(img_resolution=4, **options)
    assert isinstance(label_dim, int)
    return NetworkDenoiser(module, (2, 4, 4), label_dim)


def points(*leading: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(*leading, 32, generator=generator, dtype=torch.float64)
    return x, torch.rand(*leading, generator=generator, dtype=torch.float64) + 0.1


def test_any_leading_dimensions() -> None:
    denoise = denoiser()
    x, sigma = points(2, 3)
    with torch.no_grad():
        together = denoise(x, sigma)
        apart = torch.stack([denoise(x[i, j], sigma[i, j]) for i in range(2) for j in range(3)])
    assert together.dtype == torch.float64
    assert_close(together, apart.reshape(2, 3, 32), rtol=1e-5, atol=1e-5)
    assert denoise.dimension == 32


def test_exact_divergence_is_the_trace_of_the_jacobian() -> None:
    denoise = denoiser()
    x, sigma = points(3)
    denoised, divergence = denoise.with_divergence(x, sigma)
    jacobian = torch.func.jacrev(lambda v: denoise(v, sigma))(x)
    traces = torch.stack([jacobian[i, :, i].trace() for i in range(3)])
    assert_close(divergence, traces.detach(), rtol=1e-4, atol=1e-4)
    assert_close(denoised, denoise(x, sigma).detach(), rtol=1e-6, atol=1e-6)


def test_hutchinsons_estimate() -> None:
    denoise = denoiser()
    x, sigma = points(2)
    jacobian = torch.func.jacrev(lambda v: denoise(v, sigma))(x).detach()
    generator = torch.Generator().manual_seed(0)
    probes = torch.randint(0, 2, (50, 2, 32), generator=generator, dtype=torch.float64) * 2 - 1
    estimates = torch.stack(
        [
            torch.einsum("pd,de,pe->p", probes[:, i], jacobian[i, :, i], probes[:, i])
            for i in (0, 1)
        ]
    )
    _, mean = denoise.with_divergence(x, sigma, probes)
    assert_close(mean, estimates.mean(1), rtol=1e-4, atol=1e-4)
    exact = torch.stack([jacobian[i, :, i].trace() for i in (0, 1)])
    assert bool(((mean - exact).abs() < 4 * estimates.std(1) / 50**0.5).all())


def test_labels() -> None:
    denoise = denoiser(label_dim=3)
    assert isinstance(denoise, Conditional)
    x, sigma = points(4)
    x, sigma = x[:1].expand(4, -1), sigma[:1].expand(4)
    with torch.no_grad():
        denoised = denoise.with_labels(torch.tensor([0, 1, -1, 2]))(x, sigma)
        assert_close(denoised[2], denoise(x, sigma)[2], rtol=1e-5, atol=1e-6)
        assert_close(
            denoised[3], denoise.with_labels(torch.tensor(2))(x, sigma)[0], rtol=1e-5, atol=1e-6
        )
    for i in range(4):
        for j in range(i):
            assert float((denoised[i] - denoised[j]).abs().max()) > 1e-3
    with pytest.raises(ValueError, match=r"labels must be classes from 0 to 2, .* but one is 3"):
        denoise.with_labels(torch.tensor([0, 3]))


def test_an_unconditional_network_ignores_labels() -> None:
    denoise = denoiser()
    assert denoise.with_labels(torch.tensor([5])) is denoise


def test_encoder_features() -> None:
    module = tiny(label_dim=3)
    features = EncoderFeatures(module)
    images = torch.randn(2, 2, 8, 8, requires_grad=True)
    activations = features(images, torch.tensor([0.1, 3.0]))
    assert activations.shape == (2, 16, 4, 4)
    (gradient,) = torch.autograd.grad((activations**2).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad((gradient**2).sum(), images)
    assert bool(second.any())
    caught = []
    handle = module.model.enc["4x4_block0"].register_forward_hook(
        lambda layer, inputs, output: caught.append(output)
    )
    module(images, torch.tensor([0.1, 3.0]))
    handle.remove()
    assert_close(activations, caught[0])
