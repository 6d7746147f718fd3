"""Guidance as a denoiser; exact cases 2 and 3; weights; calibration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dgray.correction.calibration import (
    FOLDS,
    GuidanceMoments,
    calibrate,
    calibrate_constant,
)
from dgray.correction.correction import CorrectedBatch
from dgray.correction.guidance import Guidance, guided_denoiser
from dgray.correction.weight import (
    ConstantWeight,
    IntervalWeight,
    ScaledWeight,
    SplineWeight,
    hat_functions,
)
from dgray.data.mixtures import NAMED
from dgray.diffusion.denoiser import AutogradDenoiser
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import seeded_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas, stratified
from dgray.discriminator.discriminator import Discriminator, Oracle, Oscillating, ZeroDiscriminator
from dgray.metrics.path import NoiseRange, PathMoments, path_divergence
from tests.discriminator.ensembles import random_ensemble

DOUBLE = torch.float64
DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means * 1.1, DATA.stds * 1.4, DATA.weights)
ORACLE = Oracle(DATA, BASE)


def noised_data(count: int, sigma: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = DATA.sample(count, generator)
    x = clean + sigma * torch.randn(clean.shape, generator=generator, dtype=DOUBLE)
    return x, torch.full((count,), sigma, dtype=DOUBLE)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 20.0])
def test_the_oracle_at_weight_one_makes_the_datas_denoiser(sigma: float) -> None:
    x, level = noised_data(50, sigma)
    guided = guided_denoiser(BASE, ORACLE, ConstantWeight(1.0))
    torch.testing.assert_close(guided(x, level), DATA(x, level), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        guided.with_divergence(x, level), DATA.with_divergence(x, level), rtol=1e-7, atol=1e-9
    )


def test_oracle_guidance_leaves_no_kl() -> None:
    """Exact case 2: up to the prior's mismatch at sigma_max = 80 and the solver's error."""
    x, sigma = noised_data(500, 0.002)
    guided = guided_denoiser(BASE, ORACLE, ConstantWeight(1.0))
    flow = ode_log_likelihood(
        lambda x, sigma, index: guided.with_divergence(x, sigma), x, (0.002, 80.0), prior_std=80.0
    )
    kl = (DATA.log_prob(x, sigma) - flow.log_prob).mean()
    assert abs(float(kl)) <= 3e-3


def test_the_priors_mismatch_is_that_of_the_mathematics() -> None:
    """A KL of two Gaussians, 2.5e-5 nats at sigma_max = 10 with unit data; less further out."""
    unit = GaussianMixture(
        torch.zeros(1, 1, dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE), torch.ones(1).double()
    )
    levels = (torch.arange(4000, dtype=DOUBLE) + 0.5) / 4000
    x = (1 + 0.02**2) ** 0.5 * torch.special.ndtri(levels)[:, None]
    mismatches = {}
    for sigma_max in (10.0, 80.0):
        flow = ode_log_likelihood(
            lambda x, sigma, index: unit.with_divergence(x, sigma),
            x,
            (0.02, sigma_max),
            prior_std=sigma_max,
            tolerance=1e-6,
        )
        mismatches[sigma_max] = float(
            (unit.log_prob(x, torch.full_like(levels, 0.02)) - flow.log_prob).mean()
        )
    variance = 101 / 100
    assert mismatches[10.0] == pytest.approx(
        0.5 * (variance - 1 - torch.log(torch.tensor(variance)).item()), abs=1e-4
    )
    assert abs(mismatches[80.0]) < abs(mismatches[10.0])


@pytest.mark.parametrize("discriminator", [ORACLE, Oscillating(ORACLE, 0.1, 3.0)])
def test_weight_zero_is_bit_equal_to_no_guidance(discriminator: Discriminator) -> None:
    """Exact case 3, through a whole sampler."""
    sigmas = karras_sigmas(12, 0.01, 20.0)
    x = 20 * seeded_noise(0, range(40), (2,))
    off = guided_denoiser(BASE, discriminator, ConstantWeight(0.0))
    assert torch.equal(heun(off, x, sigmas), heun(BASE, x, sigmas))


def test_a_constant_logit_is_bit_equal_to_no_guidance() -> None:
    sigmas = karras_sigmas(12, 0.01, 20.0)
    x = 20 * seeded_noise(0, range(40), (2,))
    silent = guided_denoiser(BASE, ZeroDiscriminator(), ConstantWeight(1.0))
    assert torch.equal(heun(silent, x, sigmas), heun(BASE, x, sigmas))


def test_divergence_of_a_network_guided_denoiser_is_autograds() -> None:
    guided = guided_denoiser(BASE, random_ensemble(1).member(0), ConstantWeight(0.7))
    x, sigma = noised_data(20, 0.5)
    expected = AutogradDenoiser(guided).with_divergence(x, sigma)
    torch.testing.assert_close(guided.with_divergence(x, sigma), expected)


def test_oscillating_derivatives_are_autograds() -> None:
    oscillating = Oscillating(ORACLE, 0.1, 3.0)
    x, sigma = noised_data(20, 0.5)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(oscillating.logit(x, sigma).sum(), x)
    torch.testing.assert_close(oscillating.gradient(x, sigma), gradient)


def test_stacked_weights_are_the_weights_apart() -> None:
    x, sigma = noised_data(16, 0.4)
    weights = [ConstantWeight(0.5), IntervalWeight(ConstantWeight(2.0), 0.5, 1.0)]
    owner = torch.arange(2).repeat_interleave(16)
    stack = CorrectedBatch(BASE, Guidance(ORACLE), weights, owner)
    together = stack.select(torch.arange(32))(x.repeat(2, 1), sigma.repeat(2))
    for i, weight in enumerate(weights):
        apart = guided_denoiser(BASE, ORACLE, weight)(x, sigma)
        torch.testing.assert_close(together[16 * i : 16 * i + 16], apart, rtol=0, atol=0)
    some = torch.tensor([3, 20])
    picked = stack.select(some)(x.repeat(2, 1)[some], sigma.repeat(2)[some])
    torch.testing.assert_close(picked, together[some])


def test_interval_and_scale() -> None:
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0])
    inside = IntervalWeight(ConstantWeight(2.0), 0.5, 1.0)
    assert inside(sigma).tolist() == [0, 2, 2, 0]
    assert ScaledWeight(inside, 0.5)(sigma).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("span", [(0.01, 20.0), (0.02, 10.0), (0.00104, 152.2)])
def test_an_interval_that_ends_with_the_noise_levels_holds_every_step(
    span: tuple[float, float],
) -> None:
    weight = IntervalWeight(ConstantWeight(1.0), *span)
    assert bool((weight(karras_sigmas(18, *span)[:-1]) == 1).all())


def test_spline_interpolates_in_log_sigma() -> None:
    knots = torch.tensor([0.1, 1.0, 10.0], dtype=DOUBLE).log()
    weight = SplineWeight(knots, torch.tensor([0.0, 1.0, 3.0], dtype=DOUBLE))
    sigma = torch.tensor([0.01, 0.1, 10**-0.5, 1.0, 10**0.5, 10.0, 99.0], dtype=DOUBLE)
    expected = torch.tensor([0, 0, 0.5, 1, 2, 3, 3], dtype=DOUBLE)
    torch.testing.assert_close(weight(sigma), expected)
    assert torch.equal(hat_functions(knots, sigma).sum(-1), torch.ones(7, dtype=DOUBLE))


def moments_of(
    discriminator: Discriminator, count: int, seed: int, base: GaussianMixture = BASE
) -> GuidanceMoments:
    generator = torch.Generator().manual_seed(seed)
    sigma = stratified(torch.rand(count, 24, generator=generator, dtype=DOUBLE), 0.01, 20.0)
    noise = torch.randn(count, 24, 2, generator=generator, dtype=DOUBLE)
    clean = DATA.sample(count, generator)[:, None].expand_as(noise)
    x = clean + sigma[..., None] * noise
    pull = sigma[..., None] * discriminator.gradient(x, sigma)
    residual = (clean - base(x, sigma)) / sigma[..., None]
    return GuidanceMoments(sigma, (residual * pull).sum(-1), (pull**2).sum(-1))


KNOTS = torch.linspace(-4.6, 3.0, 8, dtype=DOUBLE)


def test_calibration_of_the_oracle_is_one_where_it_matters() -> None:
    moments = moments_of(ORACLE, 4000, 0)
    weight = calibrate(moments, KNOTS).weight
    exact = moments_of(ORACLE, 4000, 1).change(ConstantWeight(1.0)).mean()
    change = moments_of(ORACLE, 4000, 1).change(weight).mean()
    assert float(change) == pytest.approx(float(exact), rel=0.02)


@pytest.mark.parametrize("discriminator", [ORACLE, Oscillating(ORACLE, 0.5, 5.0)])
def test_the_calibrated_weight_is_near_the_least_squares_solution(
    discriminator: Discriminator,
) -> None:
    """Shrinkage costs less than a hundredth of the decrease of the error on the split."""
    moments = moments_of(discriminator, 2000, 0)
    hats = hat_functions(KNOTS, moments.sigma.flatten())
    matrix = (hats * moments.cost.flatten()[:, None]).T @ hats
    least = torch.linalg.solve(matrix, hats.T @ moments.gain.flatten())
    lowest = float(moments.change(SplineWeight(KNOTS, least)).mean())
    shrunken = float(moments.change(calibrate(moments, KNOTS).weight).mean())
    assert lowest <= shrunken < 0.99 * lowest < 0


def test_calibration_for_an_interval_lowers_the_error_there() -> None:
    moments = moments_of(Oscillating(ORACLE, 0.3, 5.0), 2000, 0)
    interval = (0.3, 1.0)
    calibration = calibrate(moments.within(interval), KNOTS)
    weight = IntervalWeight(calibration.weight, *interval)
    assert float(moments.change(weight).mean()) < 0
    refits = calibration.refits(moments.sigma, interval)
    assert refits.shape == (FOLDS, *moments.sigma.shape)
    assert bool((refits[:, weight(moments.sigma) == 0] == 0).all())


@pytest.mark.parametrize("count", [1, 2, 50])
def test_calibration_of_a_silent_discriminator_is_zero(count: int) -> None:
    calibration = calibrate(moments_of(ZeroDiscriminator(), count, 0), KNOTS)
    assert torch.equal(calibration.weight.values, torch.zeros_like(KNOTS))
    assert torch.equal(calibration.change, torch.zeros(count, dtype=DOUBLE))


def test_the_calibrated_weight_is_zero_where_nothing_is_to_be_corrected() -> None:
    """With base = data every weight of a wrong discriminator raises the error on new data."""
    wrong = Oscillating(ZeroDiscriminator(), 0.05, 3.0)
    for seed in range(20):
        calibration = calibrate(moments_of(wrong, 200, seed, base=DATA), KNOTS)
        assert torch.equal(calibration.weight.values, torch.zeros_like(KNOTS))
        assert not calibration.change.any()


def test_the_cross_validated_change_is_that_on_new_data() -> None:
    discriminator = Oscillating(ORACLE, 0.05, 3.0)
    calibrations = [calibrate(moments_of(discriminator, 200, seed), KNOTS) for seed in range(10)]
    new = moments_of(discriminator, 10_000, 99)
    own = torch.stack([calibration.change.mean() for calibration in calibrations])
    elsewhere = torch.stack([new.change(c.weight).mean() for c in calibrations])
    error = float((own - elsewhere).std()) / len(calibrations) ** 0.5
    assert abs(float((own - elsewhere).mean())) < 4 * error


def test_standard_errors_include_that_of_the_validation_split() -> None:
    discriminator, span = Oscillating(ORACLE, 0.05, 3.0), NoiseRange(0.01, 20.0, 6)
    new = moments_of(discriminator, 2000, 99)
    held_out = PathMoments(new.sigma, torch.zeros_like(new.gain), new.gain, new.cost, None)
    values, errors = [], []
    for seed in range(30):
        calibration = calibrate(moments_of(discriminator, 200, seed), KNOTS)
        refits = held_out.change_at(calibration.refits(new.sigma, None))
        path = path_divergence(held_out, calibration.weight, span)
        whole = path.with_fit_error(refits.unflatten(2, (6, -1)).mean((1, 3)), span)
        values.append(whole.change.value)
        errors.append(math.sqrt(whole.change.se**2 - path.change.se**2))
    spread = torch.tensor(values).std()
    typical = torch.tensor(errors).square().mean().sqrt()
    assert 0.8 < float(typical / spread) < 2.5  # conservative: near its optimum it is quadratic


def test_the_best_constant_weight_is_found_if_it_is_significant() -> None:
    """Changes (w - 1)^2 - 1 with noise: 1 is best, 1.5 less so, 0 and 2 are the base."""
    generator = torch.Generator().manual_seed(0)
    weights, knots = [-1.0, 0.5, 1.0, 1.5, 2.0], torch.zeros(4, dtype=torch.float64)
    exact = torch.tensor(weights).double()[:, None].sub(1).square() - 1
    changes = exact + 3 * torch.randn((5, 2000), generator=generator, dtype=torch.float64)
    fit = calibrate_constant(changes, weights, knots)
    assert fit.weight.values.tolist() == [1.0] * 4
    assert fit.without_fold.shape == (FOLDS, 4)
    assert float(fit.change.mean()) == pytest.approx(-1, abs=0.3)
    diverged = torch.cat([changes, torch.tensor([[torch.nan], [-torch.inf]]).expand(2, 2000)])
    assert calibrate_constant(diverged, [*weights, 3.0, 4.0], knots).weight.values[0] == 1
    uncertain = calibrate_constant(changes, weights, knots, torch.full((5,), 0.5).double())
    assert uncertain.weight.is_zero
    assert float(uncertain.change.abs().max()) == 0


def test_a_constant_weight_is_rarely_fitted_to_noise() -> None:
    """Changes without a mean pass the test of significance in at most 4 of 200 draws."""
    generator = torch.Generator().manual_seed(1)
    knots = torch.zeros(3, dtype=torch.float64)
    fits = [
        calibrate_constant(
            torch.randn((6, 100), generator=generator, dtype=torch.float64), range(1, 7), knots
        )
        for _ in range(200)
    ]
    assert sum(not fit.weight.is_zero for fit in fits) <= 4
