r"""Perceptron denoiser with the preconditioning of EDM (Karras et al. 2022, Table 1 and Eq. 7).

D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4), trained on the denoising error weighted by
(sigma^2 + sigma_data^2) / (sigma sigma_data)^2, so that every noise level starts at loss 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from dgray.diffusion.denoiser import Conditional, Denoiser, check_labels

SIGMA_FEATURES = 3


class MlpDenoiser(nn.Module):
    """Denoiser D(x; sigma) whose raw network F is a multilayer perceptron.

    F takes the one-hot vector of the class, if any, beside the features of sigma.

    Args:
        dimension: d.
        width: hidden units per layer.
        depth: hidden layers.
        sigma_data: scale of the data, > 0.
        num_classes: number of classes; 0: unconditional.
        dropout: share of hidden units dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dimension: int,
        width: int,
        depth: int,
        sigma_data: float,
        *,
        num_classes: int = 0,
        dropout: float = 0.0,
    ) -> None:
        """Initialise from the global generator of torch."""
        super().__init__()
        self.sigma_data = sigma_data
        self.num_classes = num_classes
        sizes = [dimension + SIGMA_FEATURES + num_classes, *[width] * depth]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.SiLU(), nn.Dropout(dropout)]
        self.raw = nn.Sequential(*layers, nn.Linear(sizes[-1], dimension))

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return E[x0 | x, class], in the dtype of x.

        Args:
            x: shape (..., d).
            sigma: shape (...), > 0.
            labels: int64, shape (...), -1 for no class; None: no class for all.
        """
        dtype = next(self.parameters()).dtype
        s = sigma.to(dtype)[..., None]
        total = s**2 + self.sigma_data**2
        scaled = x.to(dtype) * total.rsqrt()
        log_sigma = s.log()
        inputs = [scaled, log_sigma / 4, log_sigma.sin(), log_sigma.cos()]
        if self.num_classes:
            labels = torch.full_like(sigma, -1, dtype=torch.int64) if labels is None else labels
            inputs.append(one_hot(labels, self.num_classes).to(dtype))
        raw: Tensor = self.raw(torch.cat(inputs, -1))
        sigma = sigma[..., None]
        total = sigma**2 + self.sigma_data**2
        out = sigma * self.sigma_data * total.rsqrt() * raw.to(x.dtype)
        return self.sigma_data**2 / total * x + out


@dataclass(frozen=True)
class ClassDenoiser(Denoiser, Conditional):
    """Denoiser built from a class-conditional ``MlpDenoiser`` and labels.

    Attributes:
        model: class-conditional network.
        labels: int64, broadcast to the shape of sigma, -1 for no class; None: no class for all.
    """

    model: MlpDenoiser
    labels: Tensor | None = None

    @property
    @override
    def num_classes(self) -> int:
        return self.model.num_classes

    @override
    def with_labels(self, labels: Tensor) -> ClassDenoiser:
        """Return the denoiser of samples with these labels.

        Raises:
            ValueError: if a label is neither a class nor -1.
        """
        check_labels(labels, self.model.num_classes)
        return replace(self, labels=labels)

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        labels = None if self.labels is None else self.labels.expand(sigma.shape)
        denoised: Tensor = self.model(x, sigma, labels)
        return denoised


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Encode labels, int64 (...), as float32 (..., num_classes); zeros for -1, no class."""
    return (labels[..., None] == torch.arange(num_classes, device=labels.device)).float()


def denoising_loss(denoised: Tensor, clean: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """Return the weighted denoising error of EDM, a mean over samples and dimensions.

    Args:
        denoised: D(clean + sigma n; sigma), shape (N, d).
        clean: shape (N, d).
        sigma: shape (N,), > 0.
        sigma_data: > 0; of data with this root mean variance, c_skip x alone has loss 1.
    """
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    return (weight * ((denoised - clean) ** 2).mean(-1)).mean()
