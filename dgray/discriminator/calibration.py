r"""Calibration of the guidance weight: the w(sigma) of least denoising error.

The denoising error of the guided denoiser, E|D + w sigma^2 g - x0|^2 / sigma^2 with g = grad d, is
quadratic in w. With w piecewise linear in ln sigma its minimum over all noise levels at once is a
small linear system. w = 0 is one of the candidates, so on the split it is fitted to (validation)
the calibrated weight cannot raise the denoising error, and up to the sampling error of the split
it cannot raise the path KL.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from dgray.discriminator.guidance import SplineWeight, Weight, hat_functions


@dataclass(frozen=True)
class GuidanceMoments:
    """Moments that determine the denoising error of a guided denoiser, of N points at S levels.

    Attributes:
        sigma: noise levels, shape (N, S), > 0.
        gain: <x0 - D, g>, shape (N, S): decrease of the error per 2 w, to first order.
        cost: |sigma g|^2, shape (N, S): increase of the error per w^2.
    """

    sigma: Float[Tensor, "N S"]
    gain: Float[Tensor, "N S"]
    cost: Float[Tensor, "N S"]

    def within(self, interval: tuple[float, float] | None) -> GuidanceMoments:
        """Return the moments of guidance inside an interval of noise levels; None: everywhere."""
        if interval is None:
            return self
        inside = (self.sigma >= interval[0]) & (self.sigma <= interval[1])
        return GuidanceMoments(self.sigma, self.gain * inside, self.cost * inside)

    def change(self, weight: Weight) -> Float[Tensor, "N S"]:
        """Return the change of |D_w - x0|^2 / sigma^2 relative to the base, shape (N, S)."""
        w = weight(self.sigma)
        return w**2 * self.cost - 2 * w * self.gain


def calibrate(moments: GuidanceMoments, knots: Float64[Tensor, "K"]) -> SplineWeight:
    """Return the piecewise linear weight of least denoising error on these points.

    A knot where guidance has no effect (cost 0) has weight 0.

    Args:
        moments: moments of the validation split.
        knots: ln sigma, increasing, shape (K,), float64.
    """
    hats = hat_functions(knots, moments.sigma.flatten())  # (N S, K)
    matrix = (hats * moments.cost.flatten()[:, None]).T @ hats
    right = hats.T @ moments.gain.flatten()
    values = torch.linalg.lstsq(matrix.cpu(), right.cpu()[:, None], driver="gelsd").solution[:, 0]
    return SplineWeight(knots, values)
