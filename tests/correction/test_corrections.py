"""Corrections: closed forms, independent few-line implementations, and their costs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dgray.base.networks.mlp_denoiser import MlpDenoiser
from dgray.config.reading.load import load_study
from dgray.correction.correction import CorrectedBatch, Correction
from dgray.correction.difference import DenoiserDifference
from dgray.correction.fine_tune import build_fine_tune
from dgray.correction.linear import LinearCorrection, Secant
from dgray.correction.residual import MlpField, Residual, build_residual
from dgray.correction.weight import ConstantWeight, SplineWeight, Weight
from dgray.data.mixtures import NAMED
from dgray.diffusion.denoiser import AutogradDenoiser, Denoiser
from dgray.diffusion.likelihood import ode_log_likelihood
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator, seeded_noise
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.objective import Batch, Noised, denoising_residual
from dgray.errors import CorrectionError, StudyError
from dgray.plan.plan import make_plan
from dgray.problem.flops import PlannedInputs, counted, epoch_flops

DOUBLE = torch.float64
DATA = NAMED["ring8"]()
BASE = GaussianMixture(DATA.means * 1.1, DATA.stds * 1.4, DATA.weights)
NETWORK = {"kind": "mlp", "width": 16, "depth": 2, "activation": "silu"}


def inputs(base: Denoiser) -> PlannedInputs:
    return PlannedInputs(
        base=base,
        shape=None,
        dimension=2,
        sigma_data=1.0,
        span=(0.01, 20.0),
        num_classes=0,
        device=torch.device("cpu"),
    )


def network_base() -> AutogradDenoiser:
    torch.manual_seed(0)
    return AutogradDenoiser(MlpDenoiser(2, 16, 2, 1.0).eval().requires_grad_(False))


def batch(count: int, dtype: torch.dtype = DOUBLE) -> Batch:
    generator = named_generator("batch")
    clean = DATA.sample(count, generator)[None].to(dtype)
    noise = torch.randn(clean.shape, generator=generator, dtype=DOUBLE).to(dtype)
    sigma = torch.rand(1, count, generator=generator, dtype=DOUBLE).to(dtype) + 0.1
    real = Noised.of(clean, noise, sigma)
    return Batch(real, lambda: denoising_residual(BASE, real).to(dtype), None)


def noised(count: int, sigma: float) -> tuple[Tensor, Tensor]:
    x = DATA.sample(count, named_generator("points"))
    return x + sigma * seeded_noise(1, range(count), (2,)), torch.full((count,), sigma).double()


@dataclass(frozen=True)
class ExactResidual(Denoiser):
    """The optimum of the residual's loss: the difference of the exact scores."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return DATA.score(x, sigma) - BASE.score(x, sigma)


def moved(tensors: tuple[Tensor, ...], size: float) -> list[Tensor]:
    generator = named_generator("moved")
    return [t + size * torch.randn(t.shape, generator=generator) for t in tensors]


def trained_corrections() -> list[tuple[Denoiser, Correction]]:
    base = network_base()
    generators = [named_generator("initial")]
    ensembles = [
        (BASE, build_residual(inputs(BASE), generators, network=NETWORK)),
        (base, build_fine_tune(inputs(base), generators)),
    ]
    return [(b, e.with_tensors(moved(e.tensors, 0.1)).member(0)) for b, e in ensembles]


def test_a_perfect_residual_gives_the_density_of_the_data() -> None:
    x, sigma = noised(40, 0.01)
    corrected = Residual(ExactResidual()).denoiser(BASE, ConstantWeight(1.0))
    torch.testing.assert_close(corrected(x, sigma), DATA(x, sigma), rtol=1e-9, atol=1e-12)
    flow = ode_log_likelihood(
        lambda x, sigma, index: corrected.with_divergence(x, sigma),
        x,
        (0.01, 80.0),
        prior_std=80.0,
        tolerance=1e-3,
    )
    assert abs(float((DATA.log_prob(x, sigma) - flow.log_prob).mean())) <= 3e-3


def test_fine_tuning_of_no_steps_is_the_base() -> None:
    base = network_base()
    ensemble = build_fine_tune(inputs(base), [named_generator("initial")] * 2)
    x, sigma = noised(20, 0.3)
    for index in (0, 1):
        correction = ensemble.member(index)
        for weight in (0.5, 1.0, 3.0):
            corrected = correction.denoiser(base, ConstantWeight(weight))
            assert torch.equal(corrected(x, sigma), base(x, sigma))
        assert not correction.score_change(x, sigma).any()


@pytest.mark.parametrize("index", [0, 1])
def test_weight_zero_is_the_base_bit_for_bit(index: int) -> None:
    base, correction = trained_corrections()[index]
    sigmas = karras_sigmas(8, 0.01, 20.0)
    x = 20 * seeded_noise(0, range(20), (2,))
    off = correction.denoiser(base, ConstantWeight(0.0))
    assert torch.equal(heun(off, x, sigmas), heun(base, x, sigmas))
    assert not torch.equal(
        heun(correction.denoiser(base, ConstantWeight(1.0)), x, sigmas), heun(base, x, sigmas)
    )


@pytest.mark.parametrize("index", [0, 1])
def test_a_correction_adds_its_weight_times_its_change_of_the_score(index: int) -> None:
    base, correction = trained_corrections()[index]
    assert isinstance(correction, LinearCorrection)
    x, sigma = noised(20, 0.7)
    knots = torch.tensor([0.1, 1.0, 5.0], dtype=DOUBLE).log()
    for weight in (
        ConstantWeight(0.4),
        SplineWeight(knots, torch.tensor([0.2, 1.0, 3.0]).double()),
    ):
        corrected = correction.denoiser(base, weight)
        change = (corrected(x, sigma) - base(x, sigma)) / sigma[:, None] ** 2
        expected = weight(sigma)[:, None] * correction.score_change(x, sigma)
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-6)
        exact = AutogradDenoiser(corrected).with_divergence(x, sigma)
        torch.testing.assert_close(
            corrected.with_divergence(x, sigma), exact, rtol=1e-4, atol=1e-5
        )


def test_weights_of_one_batch_are_the_weights_apart() -> None:
    base, correction = trained_corrections()[1]
    x, sigma = noised(6, 0.4)
    weights: list[Weight] = [ConstantWeight(0.5), ConstantWeight(2.0)]
    owner = torch.tensor([0, 1, 0, 1, 1, 0])
    together = CorrectedBatch(base, correction, weights, owner).select(torch.arange(6))(x, sigma)
    for index, weight in enumerate(weights):
        apart = correction.denoiser(base, weight)(x, sigma)
        torch.testing.assert_close(together[owner == index], apart[owner == index])


def test_moving_away_from_a_denoiser_is_the_formula_of_autoguidance() -> None:
    weak = GaussianMixture(DATA.means * 1.2, DATA.stds * 2, DATA.weights)
    x, sigma = noised(20, 0.5)
    away = DenoiserDifference(BASE, weak, -1).denoiser(BASE, ConstantWeight(0.7))
    guided = weak(x, sigma) + 1.7 * (BASE(x, sigma) - weak(x, sigma))
    torch.testing.assert_close(away(x, sigma), guided)


def test_the_loss_of_the_residual_is_that_of_a_few_lines() -> None:
    ensemble = build_residual(inputs(BASE), [named_generator("initial")], network=NETWORK)
    ensemble = ensemble.with_tensors(moved(ensemble.tensors, 0.1))
    samples = batch(30, torch.float32)
    real, state = samples.real, dict(ensemble.networks.parameters)
    field = MlpField(2, 1.0, width=16, depth=2, activation="silu")
    field.load_state_dict({name: tensor[0] for name, tensor in state.items()})
    score = BASE.score(real.x.double(), real.sigma.double())[0] + field(real.x[0], real.sigma[0])
    clean = real.x[0] - real.sigma[0, :, None] * real.noise[0]
    target = -(real.x[0] - clean) / real.sigma[0, :, None] ** 2
    expected = (real.sigma[0] ** 2 * ((score - target) ** 2).sum(1)).float()
    torch.testing.assert_close(ensemble.loss(samples)[0], expected, rtol=1e-3, atol=1e-4)


def test_the_loss_of_fine_tuning_is_that_of_a_few_lines() -> None:
    base = network_base()
    ensemble = build_fine_tune(inputs(base), [named_generator(r) for r in range(2)])
    ensemble = ensemble.with_tensors(moved(ensemble.tensors, 0.1))
    samples = batch(30, torch.float32)
    real = samples.real
    clean = real.x[0] - real.sigma[0, :, None] * real.noise[0]
    losses = ensemble.loss(samples)
    for index in (0, 1):
        network = copy.deepcopy(base.function)
        assert isinstance(network, nn.Module)
        parameters = ensemble.networks.parameters
        network.load_state_dict({name: t[index] for name, t in parameters.items()})
        error = (network(real.x[0], real.sigma[0]) - clean) ** 2
        expected = error.sum(1) / real.sigma[0] ** 2
        torch.testing.assert_close(losses[index], expected, rtol=1e-3, atol=1e-4)


def test_a_secant_is_the_correction_at_its_weight() -> None:
    base, correction = trained_corrections()[1]
    x, sigma = noised(10, 0.5)
    secant = Secant(base, correction, ConstantWeight(0.6))
    expected = correction.denoiser(base, ConstantWeight(0.6))(x, sigma)
    torch.testing.assert_close(secant.denoiser(base, ConstantWeight(1.0))(x, sigma), expected)


def test_an_exact_base_cannot_be_fine_tuned() -> None:
    with pytest.raises(CorrectionError, match="a network of dgray or EDM"):
        build_fine_tune(inputs(BASE), [named_generator(0)])


STUDY = """
name: axis
data: {kind: mixture, name: ring8, num_real: 64, num_validation: 64, num_held_out: 64}
base: {kind: BASE, num_generated: 64}
discriminator: {width: 8, depth: 2}
correction: {kind: [guidance, residual, fine_tune]}
fit: {objective: [cross_entropy, kl], epochs: 40, checkpoints: [20, 40], batch_size: 32}
evaluate: {num_points: 20}
"""


def write(folder: Path, base: str, more: str = "") -> Path:
    path = folder / "study.yaml"
    path.write_text(STUDY.replace("BASE", base) + more)
    return path


def test_the_objective_is_an_axis_of_guidance_only(tmp_path: Path) -> None:
    plan = make_plan(load_study(write(tmp_path, "trained")))
    names = [(trial.correction, trial.objective) for trial in plan.trials]
    assert names == [
        ("base", "base"),
        ("guidance", "cross_entropy"),
        ("guidance", "kl"),
        ("residual", "residual"),
        ("fine_tune", "fine_tune"),
    ]


def test_guidance_has_the_identity_of_a_study_without_corrections(tmp_path: Path) -> None:
    plan = make_plan(load_study(write(tmp_path, "trained")))
    plain = STUDY.replace("correction: {kind: [guidance, residual, fine_tune]}\n", "")
    (tmp_path / "plain.yaml").write_text(plain.replace("BASE", "trained"))
    alone = make_plan(load_study(tmp_path / "plain.yaml"))
    assert [t.id for t in plan.trials][:3] == [t.id for t in alone.trials]


def test_fine_tuning_of_an_exact_base_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="'fine_tune' trains copies of the base's network"):
        load_study(write(tmp_path, "wrong_mixture"))


def test_counted_operations_are_those_of_the_matrix_products() -> None:
    layers = [(5, 16), (16, 16), (16, 2)]  # x, three features of sigma, two hidden layers
    forward = sum(2 * fan_in * fan_out for fan_in, fan_out in layers)
    x, sigma = torch.randn(3, 2), torch.ones(3)
    assert counted(lambda: network_base()(x, sigma)) == 3 * forward


def test_every_trial_of_a_budget_costs_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, "trained", "budget: {train_flops: 1e8}\n")
    axes = ["data.num_real=[32, 64]", "fit.gradient_penalty=[0, 0.1]", "fit.weight_decay=[0, 1]"]
    trained = [trial for trial in make_plan(load_study(path, axes)).trials if trial.is_trained]
    assert len({trial.epochs for trial in trained}) > 1
    for trial in trained:
        half, last = trial.epochs
        per_epoch = epoch_flops(trial.config)
        assert 0 <= 1e8 - last * per_epoch < per_epoch
        assert half == pytest.approx(last / 2, abs=1)


def test_early_stopping_keeps_its_share_of_the_epochs_of_a_budget(tmp_path: Path) -> None:
    path = write(tmp_path, "trained", "budget: {train_flops: 1e8}\n")
    plain = make_plan(load_study(path)).trials
    last = load_study(path).configs[0].config.fit.checkpoint_epochs[-1]
    stopped = make_plan(
        load_study(path, [f"fit.patience={last}", f"fit.validate_every={last // 2}"])
    ).trials
    for before, trial in zip(plain, stopped, strict=True):
        fit = trial.config.fit
        if trial.is_trained:
            assert trial.epochs == before.epochs
            assert fit.patience == fit.epochs
            assert fit.validate_every == pytest.approx(fit.epochs * (last // 2) / last, abs=1)
            assert before.config.fit.validate_every == 10  # no early stopping: as written


def test_a_budget_below_one_epoch_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "trained", "budget: {train_flops: 10}\n")
    with pytest.raises(StudyError, match="must cover an epoch of every trial"):
        make_plan(load_study(path))


def test_operations_of_an_epoch_are_those_of_its_matrix_products(tmp_path: Path) -> None:
    """Forward, gradients of weights, and gradients of all activations but the input."""
    trials = make_plan(load_study(write(tmp_path, "trained"))).trials
    flops = {t.objective: epoch_flops(t.config) / 64 for t in trials if t.is_trained}
    base, field = ([(5, 64), (64, 64), (64, 64), (64, 2)], [(5, 8), (8, 8), (8, 2)])
    forward = [sum(2 * a * b for a, b in layers) for layers in (base, field)]
    training = [
        3 * once - 2 * math.prod(layers[0])
        for once, layers in zip(forward, (base, field), strict=True)
    ]
    assert flops["fine_tune"] == training[0]
    assert flops["residual"] == forward[0] + training[1]  # the base is called, not trained
    assert flops["residual"] < flops["kl"]
