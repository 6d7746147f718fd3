"""Objectives: closed-form optima (exact case 5), the identity behind ``kl``, double backward."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from dgray.diffusion.mixture import GaussianMixture
from dgray.discriminator.discriminator import Oracle, ZeroDiscriminator
from dgray.discriminator.mlp import Mlp
from dgray.discriminator.objective import (
    Batch,
    CrossEntropy,
    Kl,
    Mixed,
    Noised,
    Objective,
    Outputs,
    denoising_residual,
    edm_weighting,
)
from tests.discriminator.ensembles import random_ensemble

DOUBLE = torch.float64
SIGMA = 0.6
DATA_STD, BASE_MEAN, BASE_STD = 1.0, 0.5, 1.2


def gaussian(mean: float, std: float) -> GaussianMixture:
    means = torch.full((1, 1), mean, dtype=DOUBLE)
    return GaussianMixture(means, torch.full_like(means, std), torch.ones(1, dtype=DOUBLE))


DATA, BASE = gaussian(0.0, DATA_STD), gaussian(BASE_MEAN, BASE_STD)


@dataclass(frozen=True)
class Quadratic:
    """d = c + b x + a x^2."""

    coefficients: Tensor

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        c, b, a = self.coefficients
        return c + b * x[..., 0] + a * x[..., 0] ** 2

    def gradient(self, x: Tensor, sigma: Tensor) -> Tensor:
        _, b, a = self.coefficients
        return b + 2 * a * x


def hermite_batch() -> tuple[Batch, Tensor]:
    """All pairs of Gauss-Hermite nodes for (x0, n): expectations over them are exact."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    first, noise = np.meshgrid(nodes, nodes, indexing="ij")
    pairs = torch.from_numpy(np.stack([first.ravel(), noise.ravel()]))[..., None]
    sigma = torch.full((pairs.shape[1],), SIGMA, dtype=DOUBLE)
    real = Noised.of(DATA_STD * pairs[0], pairs[1], sigma)
    generated = Noised.of(BASE_MEAN + BASE_STD * pairs[0], pairs[1], sigma)
    batch = Batch(real, lambda: denoising_residual(BASE, real), generated)
    return batch, torch.from_numpy(np.outer(weights, weights).ravel())


def minimise(objective: Objective) -> Tensor:
    coefficients = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
    batch, weights = hermite_batch()
    optimizer = torch.optim.LBFGS(
        [coefficients],
        max_iter=500,
        tolerance_grad=1e-13,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (objective(Outputs(Quadratic(coefficients), batch)) * weights).sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    return coefficients.detach()


def exact_log_ratio() -> Tensor:
    """Coefficients of log N(x; 0, p) - log N(x; m, q) = c + b x + a x^2."""
    p, q = DATA_STD**2 + SIGMA**2, BASE_STD**2 + SIGMA**2
    constant = 0.5 * math.log(q / p) + BASE_MEAN**2 / (2 * q)
    return torch.tensor([constant, -BASE_MEAN / q, 0.5 / q - 0.5 / p], dtype=DOUBLE)


@pytest.mark.parametrize(
    "objective", [CrossEntropy(), Kl(), Mixed(0.5)], ids=["ce", "kl", "mixed"]
)
def test_the_optimum_over_quadratic_logits_is_the_log_ratio(objective: Objective) -> None:
    coefficients, expected = minimise(objective), exact_log_ratio()
    torch.testing.assert_close(coefficients[1:], expected[1:], rtol=0, atol=1e-5)
    if not isinstance(objective, Kl):  # guidance does not see the constant
        torch.testing.assert_close(coefficients[0], expected[0], rtol=0, atol=1e-5)


def test_kl_is_the_score_error_plus_a_constant() -> None:
    """E|n + sigma (s + grad d)|^2 - E|sigma (grad log p - s - grad d)|^2 does not depend on d."""
    batch, weights = hermite_batch()
    x, sigma = batch.real.x, batch.real.sigma
    constants = []
    for coefficients in ([0.0, 0.0, 0.0], [0.0, 1.0, -2.0], exact_log_ratio().tolist()):
        outputs = Outputs(Quadratic(torch.tensor(coefficients, dtype=DOUBLE)), batch)
        score_gap = sigma[:, None] * (DATA.score(x, sigma) - BASE.score(x, sigma))
        error = ((score_gap - outputs.scaled_gradient) ** 2).sum(-1)
        constants.append(float(((Kl()(outputs) - error) * weights).sum()))
    assert constants[1] == pytest.approx(constants[0], rel=1e-10)
    assert constants[2] == pytest.approx(constants[0], rel=1e-10)


def test_uninformed_cross_entropy_is_log_four() -> None:
    batch, _ = hermite_batch()
    loss = CrossEntropy()(Outputs(ZeroDiscriminator(), batch))
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(4)))


def test_the_oracle_has_the_least_cross_entropy() -> None:
    batch, weights = hermite_batch()
    best = (CrossEntropy()(Outputs(Oracle(DATA, BASE), batch)) * weights).sum()
    for scale in (0.9, 1.1):
        other = Quadratic(scale * exact_log_ratio())
        assert float((CrossEntropy()(Outputs(other, batch)) * weights).sum()) > float(best)


def test_gradient_penalty_adds_its_weighted_squared_norm() -> None:
    batch, _ = hermite_batch()
    outputs = Outputs(Quadratic(torch.tensor([0.0, 1.0, 0.0], dtype=DOUBLE)), batch)
    difference = CrossEntropy(3.0)(outputs) - CrossEntropy()(outputs)
    torch.testing.assert_close(difference, torch.full_like(difference, 3.0 * SIGMA**2))


def test_cross_entropy_without_generated_samples_is_refused() -> None:
    batch, _ = hermite_batch()
    with pytest.raises(ValueError, match="num_generated"):
        CrossEntropy()(
            Outputs(ZeroDiscriminator(), Batch(batch.real, batch.compute_residual, None))
        )


def test_edm_weighting_is_table_ones() -> None:
    """(sigma^2 + s^2) / (sigma s)^2 on |D - x0|^2 is this on |D - x0|^2 / sigma^2."""
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=DOUBLE)
    expected = (sigma**2 + 0.25) / (sigma * 0.5) ** 2 * sigma**2
    torch.testing.assert_close(edm_weighting(sigma, 0.5), expected)


def mlp_batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    draw = [torch.randn(2, 6, 2, generator=generator, dtype=DOUBLE) for _ in range(4)]
    sigma = torch.rand(2, 6, generator=generator, dtype=DOUBLE) + 0.1
    base = GaussianMixture(
        torch.zeros(1, 2, dtype=DOUBLE), torch.ones(1, 2, dtype=DOUBLE), torch.ones(1).double()
    )
    real = Noised.of(draw[0], draw[1], sigma)
    return Batch(real, lambda: denoising_residual(base, real), Noised.of(draw[2], draw[3], sigma))


@pytest.mark.parametrize(
    "objective",
    [CrossEntropy(), CrossEntropy(0.3), Kl(), Mixed(0.7)],
    ids=["ce", "penalised", "kl", "mixed"],
)
def test_every_weight_has_the_gradient_of_finite_differences(objective: Objective) -> None:
    """Exact case 7: through the input gradient (double backward) as well."""
    batch, mlp = mlp_batch(), random_ensemble(2)
    tensors = [t.clone().requires_grad_() for t in mlp.tensors]

    def loss(values: list[Tensor]) -> Tensor:
        model: Mlp = mlp.with_tensors(values)
        return objective(Outputs(model, batch)).sum()

    gradients = torch.autograd.grad(loss(tensors), tensors, allow_unused=True)
    names = [f"weight {i}" for i in range(4)] + [f"bias {i}" for i in range(4)]
    for name, tensor, gradient in zip(names, tensors, gradients, strict=True):
        if isinstance(objective, Kl) and name == "bias 3":
            assert gradient is None  # a constant logit guides nothing
            continue
        assert gradient is not None, name
        assert (gradient != 0).any(), name
        direction = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)).double()
        step = 1e-5
        moved = [
            float(loss([t + s * step * direction if t is tensor else t for t in tensors]).detach())
            for s in (1, -1)
        ]
        slope = (moved[0] - moved[1]) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6), name
