r"""A small denoiser network in EDM's preconditioning (Karras et al. 2022, Table 1 and Eq. 7).

D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4), trained on the denoising error weighted by
(sigma^2 + sigma_data^2) / (sigma sigma_data)^2, with which every noise level starts at loss 1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class MlpDenoiser(nn.Module):
    """A multilayer perceptron as raw network F; call it as a function D(x; sigma).

    Args:
        dimension: d.
        width: hidden units per layer.
        depth: hidden layers.
        sigma_data: scale of the data, > 0.
    """

    def __init__(self, dimension: int, width: int, depth: int, sigma_data: float) -> None:
        """Initialise as torch does; seed the global generator for a reproducible network."""
        super().__init__()
        self.sigma_data = sigma_data
        sizes = [dimension + 3, *[width] * depth]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
        self.raw = nn.Sequential(*layers, nn.Linear(sizes[-1], dimension))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x] for x of shape (..., d), sigma of shape (...); in the dtype of x."""
        dtype = next(self.parameters()).dtype
        s = sigma.to(dtype)[..., None]
        total = s**2 + self.sigma_data**2
        scaled = x.to(dtype) * total.rsqrt()
        log_sigma = s.log()
        raw: Tensor = self.raw(
            torch.cat([scaled, log_sigma / 4, log_sigma.sin(), log_sigma.cos()], -1)
        )
        sigma = sigma[..., None]
        total = sigma**2 + self.sigma_data**2
        out = sigma * self.sigma_data * total.rsqrt() * raw.to(x.dtype)
        return self.sigma_data**2 / total * x + out


def denoising_loss(model: MlpDenoiser, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """EDM's weighted denoising error, mean over samples; clean and noise (N, d), sigma (N,)."""
    weight = (sigma**2 + model.sigma_data**2) / (sigma * model.sigma_data) ** 2
    error = model(clean + sigma[:, None] * noise, sigma) - clean
    loss: Tensor = (weight * (error**2).mean(-1)).mean()
    return loss
