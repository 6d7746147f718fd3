r"""Log-likelihood of a model sampled by its probability-flow ODE.

Along dx/dt = x - D(x; e^t), t = ln sigma, the log-density changes by -(d - div D) per unit of t
(Chen et al. 2018, arXiv 1806.07366; Song et al. 2021, arXiv 2011.13456), so
log q(x; sigma_min) = log N(x_T; 0, prior_std^2 I) + int (d - div D) dt.

The field of an overfitted discriminator is stiff for some samples and smooth for most. Each sample
therefore has its own step size (Dormand and Prince 1980, order 5(4)), which solvers with one step
size per batch (scipy, torchdiffeq) do not offer. Finished samples leave the batch; a sample that
exhausts its steps completes the integral in forced steps and is reported as not converged.

The error is controlled in nats of log-density, in any number of dimensions. A local error
(e_x, e_l) of a step changes the result by grad log q . e_x + e_l, where grad log q is about the
score s of the field.

A step across a jump or a kink of the field, such as the end of a guidance interval, would lose the
order of the method and mislead its error estimate; the integral is therefore split there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

Field = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x (n, d), sigma (n,), index (n,)) -> D (n, d) and div D (n,); ``index``: rows of the batch."""

# Dormand-Prince 5(4): nodes, stages (row i feeds stage i + 1; the last row is the 5th-order step)
# and 5th- minus 4th-order weights.
_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

FORCED_STEPS = 32
STEP_SHARE = 0.1  # of the tolerance


@dataclass(frozen=True)
class OdeLikelihood:
    """Log-densities of N samples and their convergence.

    Attributes:
        log_prob: log q(x; sigma_min) in nats; -inf where the flow diverged.
        converged: True where every step met the tolerance.
    """

    log_prob: Float64[Tensor, "N"]
    converged: Bool[Tensor, "N"]


def ode_log_likelihood(
    field: Field,
    x: Float[Tensor, "N d"],
    sigmas: tuple[float, float],
    *,
    prior_std: float,
    tolerance: float = 1e-4,
    max_steps: int = 1000,
    breaks: Sequence[float] = (),
) -> OdeLikelihood:
    """Integrate the log-likelihood, each sample with its own adaptive steps.

    Args:
        field: the denoiser and its divergence.
        x: samples at sigma_min.
        sigmas: (sigma_min, sigma_max), 0 < sigma_min < sigma_max.
        prior_std: standard deviation of the prior at sigma_max.
        tolerance: error of a sample's log-density in nats; the estimated error of a step is at
            most STEP_SHARE of it.
        max_steps: step attempts of a sample, after which it counts as not converged and completes
            each piece of the integral in FORCED_STEPS equal steps regardless of their error.
        breaks: noise levels at which the field or its derivative is discontinuous.
    """
    low, high = sigmas[0] * (1 + 1e-9), sigmas[1] * (1 - 1e-9)  # ends are no breaks
    inner = sorted({level for level in breaks if low < level < high})
    y = torch.cat([x.double(), x.new_zeros(len(x), 1, dtype=torch.float64)], dim=1)
    attempts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for piece in pairwise((sigmas[0], *inner, sigmas[1])):
        _integrate(_one_sided(field, piece), y, attempts, piece, (tolerance, max_steps))
    log_prob = _gaussian_log_prob(y[:, :-1], prior_std) + y[:, -1]
    diverged = ~torch.isfinite(log_prob)
    return OdeLikelihood(
        log_prob.masked_fill(diverged, -math.inf), (attempts <= max_steps) & ~diverged
    )


def _one_sided(field: Field, piece: tuple[float, float]) -> Field:
    """Return the field, with its values inside the piece also at the ends."""
    low, high = piece[0] * (1 + 1e-12), piece[1] * (1 - 1e-12)
    return lambda x, sigma, index: field(x, sigma.clamp(low, high), index)


def _integrate(
    field: Field,
    states: Tensor,
    attempts: Tensor,
    piece: tuple[float, float],
    control: tuple[float, int],
) -> None:
    """Integrate over a piece in which the field is continuous, in place.

    Args:
        field: the denoiser and its divergence.
        states: x and the change of log-density, shape (N, d + 1).
        attempts: steps attempted so far, shape (N,); above ``max_steps`` once steps are forced.
        piece: lower and upper noise level.
        control: ``tolerance`` and ``max_steps``.
    """
    (start, end), (tolerance, max_steps) = map(math.log, piece), control
    index = torch.isfinite(states).all(1).nonzero()[:, 0]
    y, used = states[index], attempts[index]
    t, h = torch.full_like(y[:, 0], start), torch.full_like(y[:, 0], 0.05)
    forced = torch.zeros_like(t)  # length of forced steps; 0 before max_steps
    slope = _derivative(field, t, y, index)
    while len(index):
        used = used + 1
        forced = torch.where((used > max_steps) & (forced == 0), (end - t) / FORCED_STEPS, forced)
        h = torch.minimum(torch.maximum(h, forced), end - t)
        proposal, slopes, error = _dormand_prince(field, t, y, h, (slope, index))
        ratio = _error_in_nats(error, slopes[-1], torch.exp(t + h)) / (STEP_SHARE * tolerance)
        ratio = torch.nan_to_num(ratio, nan=torch.inf)
        accepted = (ratio <= 1) | (forced > 0)
        t = torch.where(accepted, t + h, t)
        y = torch.where(accepted[:, None], proposal, y)
        slope = torch.where(accepted[:, None], slopes[-1], slope)
        done = accepted & ((t >= end - 1e-12) | ~torch.isfinite(y).all(1))
        states[index[done]], attempts[index[done]] = y[done], used[done]
        h = h * (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 5.0)
        keep = ~done
        t, y, h, slope, index = t[keep], y[keep], h[keep], slope[keep], index[keep]
        forced, used = forced[keep], used[keep]


def _derivative(field: Field, t: Tensor, y: Tensor, index: Tensor) -> Tensor:
    """Return d(x, log-density change)/dt, shape (n, d + 1)."""
    x = y[:, :-1]
    denoised, divergence = field(x, torch.exp(t), index)
    return torch.cat([x - denoised, (x.shape[1] - divergence)[:, None]], dim=1).double()


def _dormand_prince(
    field: Field, t: Tensor, y: Tensor, h: Tensor, start: tuple[Tensor, Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Attempt a step; return the 5th-order value, the seven slopes and the error estimate."""
    slope, index = start
    slopes = [slope]
    for node, coefficients in zip(_NODES[1:], _STAGES, strict=True):
        value = y + h[:, None] * _combine(coefficients, slopes)
        slopes.append(_derivative(field, t + node * h, value, index))
    return value, slopes, h[:, None] * _combine(_ERROR, slopes)


def _combine(coefficients: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    weights = torch.tensor(coefficients, dtype=torch.float64, device=slopes[0].device)
    slope: Tensor = torch.tensordot(weights, torch.stack(slopes), dims=1)
    return slope


def _error_in_nats(error: Tensor, slope: Tensor, sigma: Tensor) -> Tensor:
    """Return the error of the log-density; at least that of x in units of sigma.

    The latter is the effect of an error of x in a direction in which the score is of order 1 /
    sigma. The slope of x is -sigma^2 score.
    """
    of_x, of_density = error[:, :-1], error[:, -1].abs()
    through_x = torch.linalg.vecdot(of_x, slope[:, :-1]).abs() / sigma**2
    return torch.maximum(through_x + of_density, torch.linalg.vector_norm(of_x, dim=1) / sigma)


def _gaussian_log_prob(x: Tensor, std: float) -> Tensor:
    constant = x.shape[1] * (math.log(std) + 0.5 * math.log(2 * math.pi))
    return -0.5 * (x**2).sum(1) / std**2 - constant
