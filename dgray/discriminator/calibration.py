r"""The calibrated guidance weight: the best w(sigma) a discriminator allows, from one pass.

The denoising error of the guided denoiser, E|D + w sigma^2 g - x0|^2 / sigma^2 with g = grad d, is
quadratic in w. With w piecewise linear in ln sigma its minimum over all noise levels at once is a
small linear system. w = 0 is one of the candidates, so on the split it is fitted to (validation)
the calibrated weight cannot raise the denoising error, and up to the split's sampling error it
cannot raise the path KL.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgray.discriminator.guidance import SplineWeight, Weight, hat_functions


@dataclass(frozen=True)
class GuidanceMoments:
    """What the denoising error of a guided denoiser needs of N points at S noise levels.

    Attributes:
        sigma: noise levels, shape (N, S), > 0.
        gain: <x0 - D, g>, shape (N, S): what a unit of weight gains, to first order.
        cost: |sigma g|^2, shape (N, S): what it costs, to second order.
    """

    sigma: Tensor
    gain: Tensor
    cost: Tensor

    def within(self, interval: tuple[float, float] | None) -> GuidanceMoments:
        """Moments of guidance inside an interval of noise levels alone; None: everywhere."""
        if interval is None:
            return self
        inside = (self.sigma >= interval[0]) & (self.sigma <= interval[1])
        return GuidanceMoments(self.sigma, self.gain * inside, self.cost * inside)

    def change(self, weight: Weight) -> Tensor:
        """Change of the denoising error |D_w - x0|^2 / sigma^2 against the base, shape (N, S)."""
        w = weight(self.sigma)
        return w**2 * self.cost - 2 * w * self.gain


def calibrate(moments: GuidanceMoments, knots: Tensor) -> SplineWeight:
    """The piecewise linear weight of least denoising error on these points.

    Args:
        moments: of the validation split.
        knots: ln sigma, increasing, shape (K,), float64.

    A knot where guidance does nothing at all (no cost) has weight 0.
    """
    hats = hat_functions(knots, moments.sigma.flatten())  # (N S, K)
    matrix = (hats * moments.cost.flatten()[:, None]).T @ hats
    right = hats.T @ moments.gain.flatten()
    values = torch.linalg.lstsq(matrix.cpu(), right.cpu()[:, None], driver="gelsd").solution[:, 0]
    return SplineWeight(knots, values)
