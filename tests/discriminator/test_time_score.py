"""The time score on Gaussians, where it and its integral are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgray.diffusion.mixture import GaussianMixture
from dgray.discriminator.discriminator import Oracle
from dgray.discriminator.objective import Batch, Noised, Outputs
from dgray.discriminator.time_score import TimeScore, time_derivative, time_residual
from tests.discriminator.ensembles import random_ensemble

SPAN = (0.05, 20.0)


def mixture(means: list[list[float]], stds: list[list[float]]) -> GaussianMixture:
    values = (torch.tensor(v, dtype=torch.float64) for v in (means, stds))
    return GaussianMixture(*values, torch.full((len(means),), 1 / len(means)).double())


DATA = mixture([[0.0, 0.0], [2.0, 1.0]], [[1.0, 0.5], [0.4, 0.8]])
BASE = mixture([[0.3, -0.2], [1.5, 1.0]], [[1.2, 0.7], [0.6, 0.8]])


def noised(count: int, seed: int = 3, span: tuple[float, float] = SPAN) -> Noised:
    generator = torch.Generator().manual_seed(seed)
    clean = DATA.sample(count, generator)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    return Noised.of(clean, noise, span[0] * (span[1] / span[0]) ** uniform)


def exact_time_score(x: Tensor, sigma: Tensor) -> Tensor:
    """Tau of the mixtures, from log-densities alone: an independent implementation."""

    def log_ratio(log_sigma: Tensor) -> Tensor:
        return DATA.log_prob(x, log_sigma.exp()) - BASE.log_prob(x, log_sigma.exp())

    log_sigma = sigma.log().requires_grad_()
    return torch.autograd.grad(log_ratio(log_sigma).sum(), log_sigma)[0]


def test_integral_of_the_time_score_is_the_log_ratio() -> None:
    x = noised(20).x
    sigma = torch.full((20,), 0.3, dtype=torch.float64)
    steps = 500
    t = torch.linspace(math.log(0.3), math.log(SPAN[1]), steps + 1, dtype=torch.float64)
    values = torch.stack([exact_time_score(x, torch.full_like(sigma, math.exp(s))) for s in t])
    integral = torch.trapezoid(values, t, dim=0)
    oracle = Oracle(DATA, BASE)
    highest = torch.full_like(sigma, SPAN[1])
    expected = oracle.logit(x, highest) - oracle.logit(x, sigma)
    torch.testing.assert_close(integral, expected, rtol=1e-3, atol=1e-4)


def test_mean_of_the_target_is_the_time_score() -> None:
    """In bins of sigma, and against a test function of x, on 100,000 samples."""
    real = noised(100_000)
    target, exact = time_residual(BASE, real), exact_time_score(real.x, real.sigma)
    for weight in (torch.ones_like(exact), real.x[:, 0] / (1 + real.sigma)):
        error = (weight * (target - exact)).double()
        assert abs(float(error.mean())) < 4 * float(error.std()) / math.sqrt(len(error))


def test_exact_log_ratio_minimises_the_loss() -> None:
    """The loss of a perturbed log-ratio is higher, by the mean square of the perturbation."""
    real = noised(50_000)
    batch = Batch(real, lambda: torch.zeros_like(real.x), None, lambda: time_residual(BASE, real))
    oracle = Oracle(DATA, BASE)

    class Perturbed(Oracle):
        def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
            return oracle.logit(x, sigma) + 0.3 * sigma.log() * torch.tanh(x[..., 0] / sigma)

    losses = [TimeScore(SPAN)(Outputs(d, batch)) for d in (oracle, Perturbed(DATA, BASE))]
    excess = losses[1] - losses[0]
    assert float(excess.mean()) > 5 * float(excess.std()) / math.sqrt(len(excess))


@pytest.mark.parametrize("shared", [False, True])
def test_derivative_agrees_with_differences_and_trains_every_member(shared: bool) -> None:
    ensemble = random_ensemble(3, "silu")
    real = noised(12)
    rows = (
        Noised(real.noise[None], real.sigma[None], real.x[None])
        if shared
        else Noised(*(t.unflatten(0, (3, 4)) for t in (real.noise, real.sigma, real.x)))
    )
    step = 1e-5
    ends = [ensemble.logit(rows.x, rows.sigma * math.exp(s)) for s in (step, -step)]
    slope = time_derivative(ensemble, rows)
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=2e-3, atol=1e-4)
    tensors = [t.clone().requires_grad_() for t in ensemble.tensors]
    batch = Batch(rows, lambda: rows.x, None, lambda: time_residual(BASE, rows))
    loss = TimeScore(SPAN)(Outputs(ensemble.with_tensors(tensors), batch))
    assert loss.shape == (3, rows.sigma.shape[-1])
    loss.sum().backward()
    assert all(t.grad is not None and bool(t.grad.any()) for t in tensors)
