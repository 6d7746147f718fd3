r"""Calibration of the guidance weight: the w(sigma) of least denoising error.

The denoising error of the guided denoiser, E|D + w sigma^2 g - x0|^2 / sigma^2 with g = grad d, is
quadratic in w. With w piecewise linear in ln sigma its minimum over all noise levels at once is a
small linear system. It is fitted to a finite split (validation), so even a discriminator without
any use has a minimum other than 0 there, which is above the base on new data. Hence:

- each knot is shrunk by its own standard error, b -> b max(0, 1 - se^2 / b^2) (the non-negative
  garrote of Breiman 1995, Technometrics 37(4), with the constant se^2);
- the weight is 0 at every noise level unless its cross-validated decrease of the error is
  significant.

A correction that is not linear in its weight gets the best constant weight of a grid, with the
same test.

To learn the guidance weight as a function of the noise level, by least squares among others, is
due to Galashov et al. 2025 (arXiv 2510.00815); the shrinkage and the test are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from dgray.correction.weight import SplineWeight, Weight, hat_functions

FOLDS = 10
SIGNIFICANT = 3.0  # standard errors


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
        inside = _inside(self.sigma, interval)
        return GuidanceMoments(self.sigma, self.gain * inside, self.cost * inside)

    def change(self, weight: Weight) -> Float[Tensor, "N S"]:
        """Return the change of |D_w - x0|^2 / sigma^2 relative to the base, shape (N, S)."""
        w = weight(self.sigma)
        return w**2 * self.cost - 2 * w * self.gain


@dataclass(frozen=True)
class Calibration:
    """Calibrated weight, and its dependence on the points that it was fitted to.

    Attributes:
        weight: piecewise linear weight; 0 if it is not a significant improvement.
        without_fold: its values at the knots, fitted without each of the F folds of points (point
            i is in fold i modulo F); their spread gives the error due to the finite split.
        change: change of the error of each point relative to the base, mean over noise levels,
            at the weight fitted without the point's fold; 0 if the weight is 0. Shape (N,).
    """

    weight: SplineWeight
    without_fold: Float64[Tensor, "F K"]
    change: Float64[Tensor, "N"]

    def refits(
        self, sigma: Float[Tensor, "N S"], interval: tuple[float, float] | None
    ) -> Float64[Tensor, "F N S"]:
        """Return the weights fitted without each fold at noise levels, 0 outside the interval."""
        hats = hat_functions(self.weight.knots, sigma)
        weights = (hats @ self.without_fold.to(sigma.device).T).movedim(-1, 0)
        return weights if interval is None else weights * _inside(sigma, interval)


def calibrate(moments: GuidanceMoments, knots: Float64[Tensor, "K"]) -> Calibration:
    """Fit the piecewise linear weight of least denoising error.

    A knot where guidance has no effect (cost 0) has weight 0.

    Args:
        moments: moments of the validation split.
        knots: ln sigma, increasing, shape (K,), float64.
    """
    costs, gains = _normal_equations(moments, knots)
    fold = torch.arange(len(gains)) % FOLDS
    kept = [fold != i for i in fold.unique().tolist()]
    left_out = torch.stack([_shrunken(costs[rows], gains[rows]) for rows in kept])
    own = left_out[fold]  # the weight fitted without the point's fold
    change = torch.einsum("nk,nkl,nl->n", own, costs, own) - 2 * (own * gains).sum(1)
    is_useful = len(change) > 1 and bool(
        change.mean() < -SIGNIFICANT * change.std() / len(change) ** 0.5
    )
    weight = SplineWeight(knots, is_useful * _shrunken(costs, gains))
    change = is_useful * change / moments.sigma.shape[1]
    return Calibration(weight, is_useful * left_out, change)


def calibrate_constant(
    changes: Float64[Tensor, "W N"],
    weights: Sequence[float],
    knots: Float64[Tensor, "K"],
    errors: Float64[Tensor, "W"] | None = None,
) -> Calibration:
    """Choose the constant weight of least error from a grid; 0 if none is significantly better.

    Args:
        changes: change of the error of each point relative to the base at each weight, on the CPU.
            A weight with a value that is not finite is not chosen.
        weights: W weights.
        knots: ln sigma, at which the weight is reported, shape (K,), float64.
        errors: standard errors of the means of ``changes`` that are not due to the points.
    """
    zero = changes.new_zeros(1, changes.shape[1])
    changes = torch.where(changes.isfinite(), changes, torch.inf)
    changes, grid = torch.cat([zero, changes]), torch.tensor([0.0, *weights]).double()
    fold = torch.arange(changes.shape[1]) % FOLDS
    kept = [fold != i for i in fold.unique().tolist()]
    left_out = torch.stack([changes[:, rows].mean(1).argmin() for rows in kept])
    best = changes.mean(1).argmin()
    own = changes[left_out[fold], torch.arange(len(fold))]
    variance = own.var() / len(own)
    if errors is not None:
        variance = variance + torch.cat([errors.new_zeros(1), errors])[best] ** 2
    is_useful = len(own) > 1 and bool(own.mean() < -SIGNIFICANT * variance.sqrt())
    weight = SplineWeight(knots, is_useful * grid[best].expand(len(knots)))
    refits = is_useful * grid[left_out][:, None].expand(-1, len(knots))
    return Calibration(weight, refits, is_useful * own)


def uncertified(moments: GuidanceMoments, weight: SplineWeight) -> Calibration:
    """Return a weight that was fitted in another way, without the error of its validation split.

    Its change is that on the split that it was fitted to.
    """
    return Calibration(weight, weight.values[None], moments.change(weight).double().mean(1))


def _inside(sigma: Tensor, interval: tuple[float, float]) -> Tensor:
    return (sigma >= interval[0]) & (sigma <= interval[1])


def _normal_equations(
    moments: GuidanceMoments, knots: Float64[Tensor, "K"]
) -> tuple[Float64[Tensor, "N K K"], Float64[Tensor, "N K"]]:
    """Return each point's error as a quadratic form of the knots: costs and gains, on the CPU."""
    hats = hat_functions(knots, moments.sigma)  # (N, S, K)
    costs = (hats * moments.cost.double()[..., None]).transpose(1, 2) @ hats
    gains = (hats * moments.gain.double()[..., None]).sum(1)
    return costs.cpu(), gains.cpu()


def _shrunken(
    costs: Float64[Tensor, "N K K"], gains: Float64[Tensor, "N K"]
) -> Float64[Tensor, "K"]:
    """Return the least-squares weight of all knots, each shrunk by its standard error."""
    count, matrix = len(gains), costs.sum(0)
    solution = torch.linalg.lstsq(matrix, gains.sum(0)[:, None], driver="gelsd").solution[:, 0]
    slopes = gains - costs @ solution  # of each point's error; their sum is 0
    covariance = count / max(count - 1, 1) * slopes.T @ slopes
    inverse = torch.linalg.pinv(matrix, hermitian=True)
    variance = (inverse @ covariance @ inverse).diagonal()
    share = 1 - variance / solution**2
    return torch.where(solution**2 > variance, share * solution, 0.0)
