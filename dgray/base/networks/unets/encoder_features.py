"""The deepest encoder features of a denoising network, as a map of their own.

A denoiser learns features of noisy images at every noise level; a discriminator may stand on them
instead of on a classifier's (Kim et al. 2023, arXiv 2211.17091, use the latter). Knows torch.
"""

from __future__ import annotations

from torch import Tensor, nn

from dgray.base.networks.preconditioning import Preconditioned


class EncoderFeatures(nn.Module):
    """Images (N, C, H, W) and sigma (N,) -> the last encoder layer's output (N, F, h, w).

    No class is given to a conditional network. Twice differentiable.
    """

    def __init__(self, denoiser: Preconditioned) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Features, in the dtype of the images."""
        return self.denoiser.features(images, sigma).to(images.dtype)
