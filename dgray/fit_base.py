"""The ``trained`` base: a small denoiser fitted to samples of the data."""

from __future__ import annotations

import safetensors.torch
import torch
from torch import Tensor

from dgray.config.data import TrainedBase
from dgray.diffusion.denoiser import AutogradDenoiser
from dgray.diffusion.noise import named_generator
from dgray.diffusion.preconditioned import MlpDenoiser, denoising_loss
from dgray.diffusion.sigmas import log_normal


def fit_base(config: TrainedBase, real: Tensor, sigma_data: float, seed: int) -> bytes:
    """Fit by Adam to the samples ``real``, shape (n, d); the weights as safetensors."""
    generator = named_generator(seed, "base", "fit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        model = MlpDenoiser(real.shape[1], config.width, config.depth, sigma_data)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    real = real.float()
    size = min(config.batch_size, len(real))
    for _ in range(config.steps):
        clean = real[torch.randint(len(real), (size,), generator=generator)]
        sigma = log_normal(torch.randn(size, generator=generator)) * (sigma_data / 0.5)
        noise = torch.randn(clean.shape, generator=generator)
        loss = denoising_loss(model, clean, noise, sigma)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return safetensors.torch.save(dict(model.state_dict()))


def load_base(
    config: TrainedBase, weights: bytes, sigma_data: float, device: torch.device
) -> AutogradDenoiser:
    """The denoiser whose weights ``fit_base`` returned."""
    state = safetensors.torch.load(weights)
    dimension = state[f"raw.{2 * config.depth}.weight"].shape[0]
    model = MlpDenoiser(dimension, config.width, config.depth, sigma_data)
    model.load_state_dict(state)
    return AutogradDenoiser(model.to(device).eval().requires_grad_(False))
