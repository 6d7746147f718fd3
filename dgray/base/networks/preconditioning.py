r"""Denoisers of images D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) around a raw network F.

The four classes are the four columns of Table 1 of Karras et al. 2022 (arXiv 2206.00364). The raw
network is the sub-module ``model``. Images are in [-1, 1]. The arithmetic is in float32; with
``use_fp16`` the raw network runs in float16 on CUDA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from dgray.base.networks.unets.dhariwal import DhariwalUNet
from dgray.base.networks.unets.song import SongUNet
from dgray.diffusion.denoiser import NoiseLevels

RawNetwork = SongUNet | DhariwalUNet


@dataclass(frozen=True)
class Coefficients:
    """Coefficients c_skip, c_out, c_in and c_noise of each image, shape (N,)."""

    skip: Tensor
    out: Tensor
    scale: Tensor
    noise: Tensor


class Preconditioned(nn.Module):
    """Denoiser of images around a raw network; a subclass defines the coefficients.

    Args:
        model: F(x, noise labels, class labels, augment labels).
        label_dim: number of classes; 0: unconditional.
        use_fp16: whether the raw network runs in float16 on CUDA.
    """

    sigma_min: float
    sigma_max: float

    def __init__(self, model: RawNetwork, *, label_dim: int = 0, use_fp16: bool = False) -> None:
        super().__init__()
        self.label_dim, self.use_fp16 = label_dim, use_fp16
        self.model = model

    @property
    def levels(self) -> NoiseLevels:
        """Noise levels at which EDM's samplers call the network."""
        return NoiseLevels(self.sigma_min, self.sigma_max)

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients for noise levels of shape (N,), float32."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the denoised images E[x0 | x], float32, shape (N, C, H, W).

        Args:
            x: noisy images, shape (N, C, H, W).
            sigma: noise levels, shape (N,), > 0.
            class_labels: one-hot, shape (N, label_dim), zeros for no class; None: no classes.
            augment_labels: shape (N, augment_dim); None: no augmentation.
        """
        x = x.to(torch.float32)
        c = self.coefficients(sigma.to(torch.float32).flatten())
        labels = self._labels(class_labels, x)
        raw: Tensor = self.model(self._scaled(x, c), c.noise, labels, augment_labels)
        mean = raw[:, : x.shape[1]].to(torch.float32)
        return _per_image(c.skip) * x + _per_image(c.out) * mean

    def features(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the output of the last encoder layer without class, (N, F, h, w), float32."""
        x = x.to(torch.float32)
        c = self.coefficients(sigma.to(torch.float32).flatten())
        emb = self.model.embed(c.noise, self._labels(None, x))
        return self.model.encode(self._scaled(x, c), emb)[-1].to(torch.float32)

    def _scaled(self, x: Tensor, c: Coefficients) -> Tensor:
        dtype = torch.float16 if self.use_fp16 and x.is_cuda else torch.float32
        return (_per_image(c.scale) * x).to(dtype)

    def _labels(self, class_labels: Tensor | None, x: Tensor) -> Tensor | None:
        if not self.label_dim:
            return None
        if class_labels is None:
            return x.new_zeros(len(x), self.label_dim)
        return class_labels.to(torch.float32).reshape(-1, self.label_dim)


class EDMPrecond(Preconditioned):
    """Preconditioning of Karras et al. 2022: input and target of F have unit variance.

    Args:
        model, label_dim, use_fp16: see ``Preconditioned``.
        sigma_min, sigma_max: intended range of noise levels.
        sigma_data: scale of the data, > 0.
    """

    def __init__(
        self,
        model: RawNetwork,
        *,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0,
        sigma_max: float = math.inf,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(model, label_dim=label_dim, use_fp16=use_fp16)
        self.sigma_min, self.sigma_max, self.sigma_data = sigma_min, sigma_max, sigma_data

    @override
    def coefficients(self, sigma: Tensor) -> Coefficients:
        total = sigma**2 + self.sigma_data**2
        return Coefficients(
            skip=self.sigma_data**2 / total,
            out=sigma * self.sigma_data / total.sqrt(),
            scale=1 / total.sqrt(),
            noise=sigma.log() / 4,
        )


class VPPrecond(Preconditioned):
    """Variance-preserving process of Song et al. 2021 (arXiv 2011.13456), noise prediction.

    Args:
        model, label_dim, use_fp16: see ``Preconditioned``.
        beta_d, beta_min: slope of beta(t), and its value at t = 0.
        M: number of time steps.
        epsilon_t: time of ``sigma_min``.
    """

    def __init__(
        self,
        model: RawNetwork,
        *,
        label_dim: int = 0,
        use_fp16: bool = False,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,
        epsilon_t: float = 1e-5,
    ) -> None:
        super().__init__(model, label_dim=label_dim, use_fp16=use_fp16)
        self.beta_d, self.beta_min, self.num_steps = beta_d, beta_min, M
        self.sigma_min, self.sigma_max = self._sigma(epsilon_t), self._sigma(1)

    def _sigma(self, t: float) -> float:
        return math.sqrt(math.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t))

    @override
    def coefficients(self, sigma: Tensor) -> Coefficients:
        variance = 1 + sigma**2
        root = (self.beta_min**2 + 2 * self.beta_d * variance.log()).sqrt()
        time = (root - self.beta_min) / self.beta_d
        return Coefficients(
            skip=torch.ones_like(sigma),
            out=-sigma,
            scale=1 / variance.sqrt(),
            noise=(self.num_steps - 1) * time,
        )


class VEPrecond(Preconditioned):
    """Variance-exploding process of Song et al. 2021 (arXiv 2011.13456).

    Args:
        model, label_dim, use_fp16: see ``Preconditioned``.
        sigma_min, sigma_max: intended range of noise levels.
    """

    def __init__(
        self,
        model: RawNetwork,
        *,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100,
    ) -> None:
        super().__init__(model, label_dim=label_dim, use_fp16=use_fp16)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    @override
    def coefficients(self, sigma: Tensor) -> Coefficients:
        one = torch.ones_like(sigma)
        return Coefficients(skip=one, out=sigma, scale=one, noise=(0.5 * sigma).log())


class iDDPMPrecond(Preconditioned):
    """Process of Nichol & Dhariwal 2021 (arXiv 2102.09672), on the nearest of M noise levels.

    The raw network has twice the channels of an image; the second half, its variances, is unused.

    Args:
        model, label_dim, use_fp16: see ``Preconditioned``.
        C_1: smallest ratio of two successive alpha-bars.
        C_2: offset of the cosine schedule.
        M: number of noise levels.
    """

    u: Tensor

    def __init__(
        self,
        model: RawNetwork,
        *,
        label_dim: int = 0,
        use_fp16: bool = False,
        C_1: float = 0.001,
        C_2: float = 0.008,
        M: int = 1000,
    ) -> None:
        super().__init__(model, label_dim=label_dim, use_fp16=use_fp16)
        levels = [0.0]
        for step in range(M, 0, -1):
            ratio = _alpha_bar(step - 1, M, C_2) / _alpha_bar(step, M, C_2)
            levels.insert(0, math.sqrt((levels[0] ** 2 + 1) / max(ratio, C_1) - 1))
        self.num_steps = M
        self.table = torch.tensor(levels, dtype=torch.float32)  # ``u``, kept on the host
        self.register_buffer("u", self.table.clone())
        self.sigma_min, self.sigma_max = levels[M - 1], levels[0]

    @property
    @override
    def levels(self) -> NoiseLevels:
        return NoiseLevels(self.sigma_min, self.sigma_max, self.table)

    @override
    def coefficients(self, sigma: Tensor) -> Coefficients:
        index = (sigma[:, None] - self.u).abs().argmin(1)
        return Coefficients(
            skip=torch.ones_like(sigma),
            out=-sigma,
            scale=1 / (sigma**2 + 1).sqrt(),
            noise=(self.num_steps - 1 - index).to(sigma.dtype),
        )


class EncoderFeatures(nn.Module):
    """Deepest encoder features of a denoising network, as a module of its own.

    It maps images (N, C, H, W) and noise levels (N,) to the output of the last encoder layer,
    shape (N, F, h, w), without a class label. It is twice differentiable, so that a discriminator
    can be built on it instead of on a classifier (as in Kim et al. 2023, arXiv 2211.17091).
    """

    def __init__(self, denoiser: Preconditioned) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Return the features, in the dtype of the images."""
        return self.denoiser.features(images, sigma).to(images.dtype)


def _alpha_bar(step: int, num_steps: int, offset: float) -> float:
    return math.sin(0.5 * math.pi * step / num_steps / (offset + 1)) ** 2


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
