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
order of the method and mislead its error estimate; the integral is therefore split there into
pieces. Samples with different fields, breaks and tolerances share one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
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

BATCH_MULTIPLE = 64  # rows; see ``_padded``
FIRST_STEP = 0.05  # in ln sigma
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
    tolerance: float | Float[Tensor, "N"] = 1e-4,
    max_steps: int = 1000,
    breaks: Sequence[float] | Float64[Tensor, "N K"] = (),
) -> OdeLikelihood:
    """Integrate the log-likelihood, each sample with its own adaptive steps.

    Args:
        field: the denoiser and its divergence.
        x: samples at sigma_min.
        sigmas: (sigma_min, sigma_max), 0 < sigma_min < sigma_max.
        prior_std: standard deviation of the prior at sigma_max.
        tolerance: error of a sample's log-density in nats, of all samples or of each; the
            estimated error of a step is at most STEP_SHARE of it.
        max_steps: step attempts of a sample, after which it counts as not converged and completes
            each piece of the integral in FORCED_STEPS equal steps regardless of their error.
        breaks: noise levels at which the field or its derivative is discontinuous, of all samples
            or, in a tensor, of each; those outside ``sigmas`` and nan are ignored.
    """
    pieces = _pieces(torch.as_tensor(breaks, dtype=torch.float64, device=x.device), len(x), sigmas)
    step_errors = STEP_SHARE * torch.as_tensor(tolerance, dtype=torch.float64, device=x.device)
    step_errors = step_errors.expand(len(x))
    y, attempts = _integrate(_one_sided(field, pieces), x, pieces, (step_errors, max_steps))
    log_prob = _gaussian_log_prob(y[:, :-1], prior_std) + y[:, -1]
    diverged = ~torch.isfinite(log_prob)
    return OdeLikelihood(
        log_prob.masked_fill(diverged, -math.inf), (attempts <= max_steps) & ~diverged
    )


def _pieces(breaks: Tensor, count: int, sigmas: tuple[float, float]) -> Float64[Tensor, "N P"]:
    """Return sigma_min and the upper ends of the pieces of each sample, padded with sigma_max."""
    low, high = sigmas[0] * (1 + 1e-9), sigmas[1] * (1 - 1e-9)  # ends are no breaks
    inner = breaks.expand(count, breaks.shape[-1])
    inner = torch.where((low < inner) & (inner < high), inner, sigmas[1]).sort().values
    is_repeated = torch.zeros_like(inner, dtype=torch.bool)
    is_repeated[:, 1:] = inner[:, 1:] == inner[:, :-1]
    inner = inner.masked_fill(is_repeated, sigmas[1]).sort().values
    ends = inner.new_tensor(sigmas).expand(count, 2)
    return torch.cat([ends[:, :1], inner, ends[:, 1:]], dim=1)


_Slope = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(t (n,), y (n, d + 1), index (n,), piece (n,)) -> dy/dt (n, d + 1)."""


def _one_sided(field: Field, pieces: Tensor) -> _Slope:
    """Return d(x, log-density change)/dt, also at the ends with its values inside the piece."""

    def slope(t: Tensor, y: Tensor, index: Tensor, piece: Tensor) -> Tensor:
        low, high = pieces[index, piece] * (1 + 1e-12), pieces[index, piece + 1] * (1 - 1e-12)
        x = y[:, :-1]
        denoised, divergence = field(x, torch.exp(t).clamp(low, high), index)
        return torch.cat([x - denoised, (x.shape[1] - divergence)[:, None]], dim=1).double()

    return slope


def _integrate(
    slope_of: _Slope, x: Tensor, pieces: Tensor, control: tuple[Tensor, int]
) -> tuple[Tensor, Tensor]:
    """Integrate x and the change of log-density.

    Args:
        slope_of: dy/dt.
        x: samples at sigma_min, shape (N, d).
        pieces: see ``_pieces``.
        control: largest error of a step in nats, shape (N,), and ``max_steps``.

    Returns:
        y = (x, change of log-density) at sigma_max, shape (N, d + 1), and the number of steps
        attempted, shape (N,); above ``max_steps`` if steps were forced.
    """
    (step_errors, max_steps), ends = control, pieces.log()
    states = torch.cat([x.double(), x.new_zeros(len(x), 1, dtype=torch.float64)], dim=1)
    attempts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    index = torch.isfinite(states).all(1).nonzero()[:, 0]
    count, index = len(index), _padded(index)  # the first ``count`` rows are no repetitions
    y, used, piece = states[index], attempts[index], torch.zeros_like(index)
    t, h = ends[index, 0], torch.full_like(y[:, 0], FIRST_STEP)
    forced = torch.zeros_like(t)  # length of forced steps; 0 before max_steps
    slope = slope_of(t, y, index, piece)
    while count:
        used, end = used + 1, ends[index, piece + 1]
        forced = torch.where((used > max_steps) & (forced == 0), (end - t) / FORCED_STEPS, forced)
        planned = torch.maximum(h, forced)
        h = torch.minimum(planned, end - t)
        proposal, slopes, error = _dormand_prince(slope_of, t, y, h, (slope, index, piece))
        ratio = _error_in_nats(error, slopes[-1], torch.exp(t + h)) / step_errors[index]
        ratio = torch.nan_to_num(ratio, nan=torch.inf)
        accepted = (ratio <= 1) | (forced > 0)
        t = torch.where(accepted, t + h, t)
        y = torch.where(accepted[:, None], proposal, y)
        slope = torch.where(accepted[:, None], slopes[-1], slope)
        cut_short = accepted & (h < planned)  # by the end of the piece, not by its error
        h = h * (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 5.0)
        h = torch.where(cut_short, torch.maximum(h, planned), h)
        ended = accepted & ((t >= end - 1e-12) | ~torch.isfinite(y).all(1))
        if not ended.any():
            continue
        done = ended & ((end == ends[:, -1][index]) | ~torch.isfinite(y).all(1))
        states[index[done]], attempts[index[done]] = y[done], used[done]
        entered = (ended & ~done).nonzero()[:, 0]  # rows that start their next piece
        if len(entered):
            piece[entered] += 1
            t[entered], forced[entered] = end[entered], 0.0
            some = _padded(entered)
            slope[some] = slope_of(t[some], y[some], index[some], piece[some])
        left = (~done[:count]).nonzero()[:, 0]
        count, left = len(left), _padded(left)
        rows = (t, y, h, slope, index, piece, forced, used)
        t, y, h, slope, index, piece, forced, used = (values[left] for values in rows)
    return states, attempts


def _padded(rows: Int64[Tensor, "n"]) -> Int64[Tensor, "m"]:
    """Repeat the first row up to a multiple of BATCH_MULTIPLE.

    Vectorised kernels round the last rows of a batch differently in batches of other sizes. With
    padding, a sample has the same bits in every batch, so that guidance weight 0 equals the base.
    """
    return torch.cat([rows, rows[:1].expand(-len(rows) % BATCH_MULTIPLE)])


def _dormand_prince(
    slope_of: _Slope, t: Tensor, y: Tensor, h: Tensor, start: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Attempt a step; return the 5th-order value, the seven slopes and the error estimate."""
    slope, index, piece = start
    slopes = [slope]
    for node, coefficients in zip(_NODES[1:], _STAGES, strict=True):
        value = y + h[:, None] * _combine(coefficients, slopes)
        slopes.append(slope_of(t + node * h, value, index, piece))
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
