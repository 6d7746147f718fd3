"""Corrections by a second denoiser against closed forms and independent implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dgray.correction.autoguidance import build_autoguidance
from dgray.correction.correction import CorrectedBatch
from dgray.correction.ddo import build_ddo
from dgray.correction.difference import DenoiserDifference
from dgray.correction.neon import Extrapolation, build_neon
from dgray.correction.sims import build_sims
from dgray.correction.weight import ConstantWeight, IntervalWeight
from dgray.diffusion.denoiser import AutogradDenoiser, Denoiser
from dgray.diffusion.mixture import GaussianMixture
from dgray.discriminator.objective import Batch, Noised, denoising_residual
from dgray.errors import CorrectionError

NETWORK = {"kind": "mlp", "width": 8, "depth": 2}


def gaussian(mean: float, std: float, dimension: int = 1) -> GaussianMixture:
    values = (torch.full((1, dimension), v, dtype=torch.float64) for v in (mean, std))
    return GaussianMixture(*values, torch.ones(1, dtype=torch.float64))


class OneParameter(nn.Module):
    """Exact denoiser of N(theta, std^2): theta is the only parameter."""

    def __init__(self, theta: float, std: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float64))
        self.std = std

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        share = (sigma**2 / (self.std**2 + sigma**2))[..., None]
        return x + share * (self.theta - x)


@dataclass
class Inputs:
    base: Denoiser
    dimension: int = 1
    shape: None = None
    sigma_data: float = 1.0
    span: tuple[float, float] = (0.01, 20.0)
    num_classes: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def points(count: int = 30, dimension: int = 1, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.rand(count, generator=generator, dtype=torch.float64) * 3 + 0.02
    return 2 * torch.randn(count, dimension, generator=generator, dtype=torch.float64), sigma


def noised(law: GaussianMixture, count: int, seed: int, members: int) -> Noised:
    generator = torch.Generator().manual_seed(seed)
    clean = law.sample(members * count, generator).unflatten(0, (members, count))
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    sigma = torch.rand(clean.shape[:2], generator=generator, dtype=torch.float64) * 2 + 0.3
    return Noised.of(clean, noise, sigma)


def batch_of(base: Denoiser, data: GaussianMixture, model: GaussianMixture, members: int) -> Batch:
    real, generated = noised(data, 4000, 1, members), noised(model, 4000, 2, members)
    return Batch(real, lambda: denoising_residual(base, real), generated)


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_moving_away_from_a_perfect_model_gives_the_score_of_a_product_density(
    weight: float,
) -> None:
    """SIMS: p_base^(1 + w) / p_aux^w, by finite differences of log-densities of mixtures."""
    means, weights = torch.tensor([[-1.0], [1.5]]).double(), torch.tensor([0.3, 0.7]).double()
    base = GaussianMixture(means, torch.full((2, 1), 0.6).double(), weights)
    auxiliary = GaussianMixture(1.1 * means, torch.full((2, 1), 0.8).double(), weights)
    corrected = DenoiserDifference(base, auxiliary, -1).denoiser(base, ConstantWeight(weight))
    x, sigma = points()

    def log_product(x: Tensor) -> Tensor:
        return (1 + weight) * base.log_prob(x, sigma) - weight * auxiliary.log_prob(x, sigma)

    score = (corrected(x, sigma) - x) / sigma[:, None] ** 2
    slope = (log_product(x + 1e-5) - log_product(x - 1e-5)) / 2e-5
    torch.testing.assert_close(score[:, 0], slope, rtol=1e-6, atol=1e-6)


def test_autoguidance_of_gaussians_has_a_closed_form() -> None:
    """A weak model with twice the error in the precision: w = 1 is exact, at every noise level."""
    x, sigma = points()
    precise = 1 / (1 + sigma**2)
    wrong = precise / 1.5
    variance = 1 / wrong - sigma**2
    weak_variance = 1 / (2 * wrong - precise) - sigma**2

    def denoiser(variance: Tensor) -> AutogradDenoiser:
        return AutogradDenoiser(lambda x, s: x * (variance / (variance + s**2))[:, None])

    base, weak = denoiser(variance), denoiser(weak_variance)
    corrected = DenoiserDifference(base, weak, -1).denoiser(base, ConstantWeight(1.0))
    torch.testing.assert_close(corrected(x, sigma), gaussian(0.0, 1.0)(x, sigma))
    g = 3.0  # of the paper: D_weak + g (D - D_weak), g = w + 1
    corrected = DenoiserDifference(base, weak, -1).denoiser(base, ConstantWeight(g - 1))
    expected = weak(x, sigma) + g * (base(x, sigma) - weak(x, sigma))
    torch.testing.assert_close(corrected(x, sigma), expected)


def test_neon_after_one_gradient_step_has_a_closed_form() -> None:
    """theta_w = theta - w (theta_ft - theta), with theta_ft from the gradient in closed form."""
    theta, std, rate = 0.5, 1.2, 0.1
    base = AutogradDenoiser(OneParameter(theta, std).requires_grad_(False))
    ensemble = build_neon(Inputs(base), generators(2))
    batch = batch_of(base, gaussian(0.0, 1.0), gaussian(theta, std), 2)
    start = ensemble.tensors[0].clone().requires_grad_()
    loss = ensemble.with_tensors([start]).loss(batch).mean(1)
    loss.sum().backward()
    assert batch.generated is not None
    x, sigma = batch.generated.x[..., 0], batch.generated.sigma
    clean = x - sigma * batch.generated.noise[..., 0]
    share = sigma**2 / (std**2 + sigma**2)
    gradient = (2 * share * (x + share * (theta - x) - clean) / sigma**2).mean(1)
    assert start.grad is not None
    torch.testing.assert_close(start.grad[:, 0], gradient)
    member = ensemble.with_tensors([(start - rate * start.grad).detach()]).member(1)
    x, sigma = points()
    for weight in (0.5, 3.0):
        expected = OneParameter(theta + weight * rate * float(gradient[1]), std)(x, sigma)
        corrected = member.denoiser(base, ConstantWeight(weight))
        torch.testing.assert_close(corrected(x, sigma), expected.detach())


def test_ddo_gradient_at_the_base_has_a_closed_form() -> None:
    """Half of beta times the gradient of the error on real samples, minus alpha on generated."""
    theta, std, alpha, beta = 0.5, 1.2, 1.5, 0.3
    base = AutogradDenoiser(OneParameter(theta, std).requires_grad_(False))
    ensemble = build_ddo(Inputs(base), generators(1), alpha=alpha, beta=beta)
    batch = batch_of(base, gaussian(0.0, 1.0), gaussian(theta, std), 1)
    start = ensemble.tensors[0].clone().requires_grad_()
    loss = ensemble.with_tensors([start]).loss(batch)
    assert float(loss.detach().mean()) == pytest.approx((1 + alpha) * math.log(2))
    loss.mean().backward()

    def slope(samples: Noised) -> float:
        share = samples.sigma**2 / (std**2 + samples.sigma**2)
        x = samples.x[..., 0]
        clean = x - samples.sigma * samples.noise[..., 0]
        return float((2 * share * (x + share * (theta - x) - clean) / samples.sigma**2).mean())

    assert batch.generated is not None
    assert start.grad is not None
    expected = 0.5 * beta * (slope(batch.real) - alpha * slope(batch.generated))
    assert float(start.grad) == pytest.approx(expected, rel=1e-9)
    assert expected > 0  # a step down moves theta = 0.5 towards the data's mean, 0


def test_ddo_loss_agrees_with_a_few_lines() -> None:
    base = AutogradDenoiser(OneParameter(0.5, 1.2).requires_grad_(False))
    ensemble = build_ddo(Inputs(base), generators(1), alpha=2.0, beta=0.7)
    batch = batch_of(base, gaussian(0.0, 1.0), gaussian(0.5, 1.2), 1)
    tuned = OneParameter(0.1, 1.2).requires_grad_(False)
    loss = ensemble.with_tensors([tuned.theta[None]]).loss(batch)
    assert batch.generated is not None
    deltas = []
    for samples in (batch.real, batch.generated):
        clean = samples.x - samples.sigma[..., None] * samples.noise
        errors = [(f(samples.x, samples.sigma) - clean) ** 2 for f in (base, tuned)]
        deltas.append(0.7 * ((errors[0] - errors[1])[..., 0] / samples.sigma**2))
    expected = softplus(-deltas[0]) + 2.0 * softplus(deltas[1])
    torch.testing.assert_close(loss, expected)


def test_weight_0_is_the_base_bit_for_bit_and_rows_may_differ_in_weight() -> None:
    base = AutogradDenoiser(OneParameter(0.5, 1.2).requires_grad_(False))
    tuned = AutogradDenoiser(OneParameter(0.7, 1.2).requires_grad_(False))
    x, sigma = points()
    weights = [ConstantWeight(0.0), ConstantWeight(1.5), IntervalWeight(ConstantWeight(2), 1, 2)]
    for correction in (Extrapolation(base, tuned), DenoiserDifference(base, tuned, -1)):
        zero = correction.denoiser(base, ConstantWeight(0.0))
        assert torch.equal(zero(x, sigma), base(x, sigma))
        pairs = zip(zero.with_divergence(x, sigma), base.with_divergence(x, sigma), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
        index = torch.arange(30) % 3
        rows = CorrectedBatch(base, correction, weights, index).select(torch.arange(30))
        for values, alone in (
            (rows(x, sigma), lambda d: d(x, sigma)),
            (rows.with_divergence(x, sigma)[1], lambda d: d.with_divergence(x, sigma)[1]),
        ):
            for i, weight in enumerate(weights):
                expected = alone(correction.denoiser(base, weight))
                torch.testing.assert_close(values[index == i], expected[index == i])


def test_auxiliary_models_are_copies_of_a_network_and_new_for_an_exact_base() -> None:
    exact, parametric = gaussian(0.5, 1.2), AutogradDenoiser(OneParameter(0.5, 1.2))
    new = build_sims(Inputs(exact), generators(3), network=NETWORK)
    assert new.num_parameters == 4 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert not torch.equal(new.tensors[0][0], new.tensors[0][1])
    copies = build_sims(Inputs(parametric), generators(3), network=NETWORK)
    assert copies.num_parameters == 1
    batch = batch_of(exact, gaussian(0.0, 1.0), exact, 3)
    assert new.loss(batch).shape == (3, 4000)
    assert batch.generated is not None
    error = denoising_residual(exact, batch.generated).square().sum(-1)
    torch.testing.assert_close(copies.loss(batch), error)  # a copy of the same denoiser


def test_training_reads_real_samples_for_autoguidance_and_generated_ones_for_sims_and_neon() -> (
    None
):
    exact = gaussian(0.5, 1.2)
    real, generated = noised(gaussian(0.0, 1.0), 50, 1, 1), noised(exact, 50, 2, 1)
    other = noised(exact, 50, 3, 1)
    weak = build_autoguidance(Inputs(exact), generators(1), network=NETWORK)
    aux = build_sims(Inputs(exact), generators(1), network=NETWORK)

    def loss(ensemble: object, real: Noised, generated: Noised) -> Tensor:
        return ensemble.loss(Batch(real, lambda: real.x, generated))  # type: ignore[attr-defined]

    assert torch.equal(loss(weak, real, generated), loss(weak, real, other))
    assert torch.equal(loss(aux, real, generated), loss(aux, other, generated))
    assert not torch.equal(loss(aux, real, generated), loss(aux, real, other))


@pytest.mark.parametrize("build", [build_neon, lambda i, g: build_ddo(i, g, alpha=1.0, beta=1.0)])
def test_corrections_of_parameters_refuse_an_exact_base(build: Callable[..., object]) -> None:
    with pytest.raises(CorrectionError, match="GaussianMixture"):
        build(Inputs(gaussian(0.5, 1.2)), generators(1))
