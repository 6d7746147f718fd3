"""Log-likelihoods of the flow against closed forms; their accuracy and convergence."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from dgray.correction.acting import ActingDenoiser
from dgray.correction.guidance import Guidance, guided_denoiser
from dgray.correction.weight import ConstantWeight, IntervalWeight, SplineWeight, Weight
from dgray.data.mixtures import NAMED
from dgray.diffusion.likelihood import Field, ode_log_likelihood
from dgray.diffusion.mixture import GaussianMixture
from dgray.discriminator.discriminator import Oracle, Oscillating

DOUBLE = torch.float64


def gaussian(mean: float, std: float, dimension: int = 1) -> GaussianMixture:
    means = torch.full((1, dimension), mean, dtype=DOUBLE)
    return GaussianMixture(means, torch.full_like(means, std), torch.ones(1, dtype=DOUBLE))


def flow_of(denoiser: GaussianMixture | ActingDenoiser[Guidance]) -> Field:
    return lambda x, sigma, index: denoiser.with_divergence(x, sigma)


def noised(mixture: GaussianMixture, count: int, sigma: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = mixture.sample(count, generator)
    x = clean + sigma * torch.randn(clean.shape, generator=generator, dtype=DOUBLE)
    return x, torch.full((count,), sigma, dtype=DOUBLE)


@pytest.mark.parametrize("name", ["ring8", "grid25", "five_gaussians_1d", "axes16"])
def test_the_flow_of_a_mixture_has_its_density(name: str) -> None:
    """The base's kl is its closed form to 1e-3 nats on the same points."""
    data = NAMED[name]()
    base = GaussianMixture(data.means * 1.1, data.stds * 1.4, data.weights)
    x, sigma = noised(data, 400, 0.002)
    flow_result = ode_log_likelihood(flow_of(base), x, (0.002, 80.0), prior_std=80.0)
    gap = flow_result.log_prob - base.log_prob(x, sigma)
    assert flow_result.converged.all()
    assert abs(float(gap.mean())) < 1e-3


def test_the_error_shrinks_with_the_tolerance() -> None:
    """Without a prior's mismatch: a Gaussian whose prior is its own noised law."""
    base = gaussian(0.0, 0.5, dimension=3)
    x, sigma = noised(gaussian(0.0, 0.7, dimension=3), 200, 0.01)
    prior_std = float((0.25 + 100.0) ** 0.5)

    def error(tolerance: float) -> float:
        flow_result = ode_log_likelihood(
            flow_of(base), x, (0.01, 10.0), prior_std=prior_std, tolerance=tolerance
        )
        return float((flow_result.log_prob - base.log_prob(x, sigma)).abs().mean())

    coarse, middle, fine = error(1e-3), error(1e-5), error(1e-7)
    assert middle < coarse / 30
    assert fine < middle / 30


def test_adaptive_agrees_with_scipys_dop853_on_a_stiff_field() -> None:
    data, base = gaussian(0.0, 1.0), gaussian(0.5, 1.2)
    guided = guided_denoiser(base, Oscillating(Oracle(data, base), 0.1, 10.0), ConstantWeight(1.0))
    x = torch.tensor([[-1.0], [0.3], [2.0]], dtype=DOUBLE)
    flow_result = ode_log_likelihood(
        flow_of(guided), x, (0.02, 10.0), prior_std=101**0.5, tolerance=1e-7, max_steps=20_000
    )
    assert flow_result.converged.all()

    def slope(t: float, y: np.ndarray) -> list[float]:
        """-sigma^2 times the score -x / (1 + sigma^2) + a k cos(k x), and its derivative."""
        variance, phase = math.exp(2 * t), 10 * y[0]
        score = -y[0] / (1 + variance) + 0.1 * 10 * math.cos(phase)
        derivative = -1 / (1 + variance) - 0.1 * 10**2 * math.sin(phase)
        return [-variance * score, -variance * derivative]

    for start, log_prob in zip(x[:, 0].tolist(), flow_result.log_prob.tolist(), strict=True):
        span = (np.log(0.02), np.log(10.0))
        end = solve_ivp(slope, span, [start, 0.0], method="DOP853", rtol=1e-9, atol=1e-10).y[:, -1]
        prior = -0.5 * end[0] ** 2 / 101 - 0.5 * np.log(2 * np.pi * 101)
        assert log_prob == pytest.approx(prior + end[1], abs=1e-3)


def test_a_sample_out_of_steps_is_reported_and_ends() -> None:
    data, base = gaussian(0.0, 1.0), gaussian(0.5, 1.2)
    guided = guided_denoiser(base, Oscillating(Oracle(data, base), 0.1, 10.0), ConstantWeight(1.0))
    x, _ = noised(data, 20, 0.02)
    flow_result = ode_log_likelihood(
        flow_of(guided), x, (0.02, 10.0), prior_std=10.0, max_steps=20
    )
    assert not flow_result.converged.any()
    assert flow_result.log_prob.shape == (20,)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    base = NAMED["ring8"]()
    x, _ = noised(base, 30, 0.01)
    together = ode_log_likelihood(flow_of(base), x, (0.01, 20.0), prior_std=20.0)
    alone = ode_log_likelihood(flow_of(base), x[7:8], (0.01, 20.0), prior_std=20.0)
    assert torch.equal(together.log_prob[7:8], alone.log_prob)


KNOTS = torch.linspace(math.log(0.01), math.log(20.0), 5, dtype=DOUBLE)
BREAKING = [
    IntervalWeight(ConstantWeight(1.0), 0.3, 3.0),
    IntervalWeight(ConstantWeight(1.0), 0.001, 1.0),  # begins below sigma_min
    SplineWeight(KNOTS, torch.tensor([0.0, 1.0, 0.2, 1.2, 0.0], dtype=DOUBLE)),
]


@pytest.mark.parametrize("weight", BREAKING)
def test_weights_that_jump_or_bend_do_not_add_an_error(weight: Weight) -> None:
    """The reference integrates each smooth piece with scipy's DOP853; 1-D, so by points."""
    data, base = gaussian(0.0, 1.0), gaussian(0.5, 1.2)
    guided = guided_denoiser(base, Oracle(data, base), weight)
    x = torch.tensor([[-2.0], [1.5]], dtype=DOUBLE)
    flow_result = ode_log_likelihood(
        flow_of(guided), x, (0.01, 20.0), prior_std=20.0, tolerance=1e-5, breaks=weight.breaks
    )
    assert flow_result.converged.all()

    def slope(t: float, y: np.ndarray, inside: float) -> list[float]:
        """Slope with the weight of the piece, whose ends are not in question."""
        sigma = torch.tensor([inside if isinstance(weight, IntervalWeight) else math.exp(t)])
        w = float(weight(sigma.double()))
        of_data, of_base = 1 + math.exp(2 * t), 1.44 + math.exp(2 * t)
        score = (1 - w) * -(y[0] - 0.5) / of_base + w * -y[0] / of_data
        derivative = (1 - w) * -1 / of_base + w * -1 / of_data
        return [-math.exp(2 * t) * score, -math.exp(2 * t) * derivative]

    inner = [level for level in weight.breaks if 0.01 < level < 20.0]
    levels = np.log([0.01, *inner, 20.0])
    for start, log_prob in zip(x[:, 0].tolist(), flow_result.log_prob.tolist(), strict=True):
        state = np.array([start, 0.0])
        for low, high in pairwise(levels):
            inside = (math.exp((low + high) / 2),)
            state = solve_ivp(
                slope, (low, high), state, method="DOP853", rtol=1e-8, atol=1e-10, args=inside
            ).y[:, -1]
        prior = -0.5 * state[0] ** 2 / 400 - 0.5 * np.log(2 * np.pi * 400)
        assert log_prob == pytest.approx(prior + state[1], abs=2e-5)


def test_a_break_does_not_shorten_the_steps_behind_it() -> None:
    base, calls = gaussian(0.0, 1.0, 2), [0]
    x, _ = noised(base, 16, 0.01)

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        return base.with_divergence(x, sigma)

    def count(breaks: list[float]) -> int:
        calls[0] = 0
        ode_log_likelihood(field, x, (0.01, 20.0), prior_std=20.0, breaks=breaks)
        return calls[0]

    # A break costs at most two steps of 6 calls, and the slope behind it.
    assert count([0.1, 1.0, 3.0]) <= count([]) + 3 * 13


@pytest.mark.parametrize("interval", [False, True])
def test_a_weight_that_is_zero_everywhere_has_the_bits_of_the_base(interval: bool) -> None:
    data, base = gaussian(0.0, 1.0), gaussian(0.5, 1.2)
    zero: Weight = SplineWeight(KNOTS, torch.zeros(5, dtype=DOUBLE))
    weight = IntervalWeight(zero, 0.3, 3.0) if interval else zero
    assert weight.is_zero
    guided = guided_denoiser(base, Oracle(data, base), weight)
    x, _ = noised(data, 64, 0.01)
    span = {"sigmas": (0.01, 20.0), "prior_std": 20.0, "tolerance": 1e-2}
    of_guided = ode_log_likelihood(flow_of(guided), x, **span, breaks=weight.breaks)
    assert torch.equal(of_guided.log_prob, ode_log_likelihood(flow_of(base), x, **span).log_prob)


def test_a_spline_breaks_where_its_slope_changes() -> None:
    weight = SplineWeight(KNOTS, torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0], dtype=DOUBLE))
    assert weight.breaks == pytest.approx(KNOTS[[2, 4]].exp().tolist())


def test_samples_with_other_breaks_and_tolerances_share_a_batch() -> None:
    x, _ = noised(gaussian(0.3, 1.1, 2), 6, 0.01)
    jump = IntervalWeight(ConstantWeight(1.0), 0.1, 1.0)
    bend = SplineWeight(
        torch.tensor([0.2, 3.0], dtype=DOUBLE).log(), torch.tensor([0.4, 1.5], dtype=DOUBLE)
    )
    base = gaussian(0.0, 1.3, 2)
    models = [
        guided_denoiser(base, Oracle(gaussian(0.3, 1.1, 2), base), weight)
        for weight in (jump, ConstantWeight(1.0), bend)
    ]
    tolerances, breaks = (1e-5, 1e-3, 1e-4), [(*m.weight.breaks, 1e9, 0.1) for m in models]
    span = {"sigmas": (0.01, 20.0), "prior_std": 20.0}
    apart = [
        ode_log_likelihood(flow_of(model), x, **span, tolerance=tolerance, breaks=levels).log_prob
        for model, tolerance, levels in zip(models, tolerances, breaks, strict=True)
    ]

    def field(x: Tensor, sigma: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        every = [model.with_divergence(x, sigma) for model in models]
        owner = index // 6
        return (
            torch.stack([denoised for denoised, _ in every])[owner, torch.arange(len(x))],
            torch.stack([divergence for _, divergence in every])[owner, torch.arange(len(x))],
        )

    width = max(map(len, breaks))
    padded = [[*levels, *[math.nan] * (width - len(levels))] for levels in breaks]
    together = ode_log_likelihood(
        field,
        x.repeat(3, 1),
        **span,
        tolerance=torch.tensor(tolerances, dtype=DOUBLE).repeat_interleave(6),
        breaks=torch.tensor(padded, dtype=DOUBLE).repeat_interleave(6, dim=0),
    )
    assert torch.equal(together.log_prob, torch.cat(apart))


@pytest.mark.parametrize("dimension", [1, 8, 64, 512])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_the_tolerance_is_that_of_the_log_density_in_any_dimension(
    dimension: int, tolerance: float
) -> None:
    base = gaussian(0.0, 0.5, dimension)
    x, sigma = noised(gaussian(0.0, 0.7, dimension), 20, 0.02)
    prior_std = math.sqrt(0.25 + 80.0**2)
    flow_result = ode_log_likelihood(
        flow_of(base), x, (0.02, 80.0), prior_std=prior_std, tolerance=tolerance
    )
    assert flow_result.converged.all()
    error = (flow_result.log_prob - base.log_prob(x, sigma)).abs()
    assert float(error.max()) < tolerance
