"""Training of convolutional ensembles: together or apart, interrupted or not, labelled or not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dgray.config.training import Fit
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_uniform
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.fit import FitCheckpoint, Task, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import (
    Batch,
    CrossEntropy,
    Kl,
    Noised,
    Objective,
    ObjectiveLoss,
    Outputs,
    denoising_residual,
)
from dgray.problem.build import build_training_schedule

DATA = GaussianMixture(
    torch.stack([torch.linspace(-1, 1, 16), torch.linspace(1, -1, 16)]),
    torch.full((2, 16), 0.2),
    torch.full((2,), 0.5),
)
BASE = GaussianMixture(DATA.means, DATA.stds * 2, DATA.weights)
SHAPE = ConvShape(image=(1, 4, 4), width=8, depth=1, num_classes=2)
EVERYTHING = {
    "dropout": 0.2,
    "ema_decay": 0.9,
    "weight_decay": 0.1,
    "patience": 3,
    "validate_every": 1,
}


def task(replicates: list[int], objective: Objective | None = None) -> Task:
    generator = named_generator("validation")
    sigma = log_uniform(torch.rand(1, 60, generator=generator), 0.05, 5.0)
    noise = torch.randn(1, 60, 16, generator=generator)
    real = Noised.of(DATA.sample(60, generator)[None], noise, sigma)
    generated = Noised.of(BASE.sample(60, generator)[None], noise, sigma)
    return Task(
        real=torch.stack([DATA.sample(30, named_generator("real", r)) for r in replicates]),
        generated=torch.stack([BASE.sample(40, named_generator("made", r)) for r in replicates]),
        base=BASE,
        loss=ObjectiveLoss(objective or Kl()),
        draw_sigma=lambda g, n: log_uniform(torch.rand(n, generator=g), 0.05, 5.0),
        weigh=torch.ones_like,
        validation=Batch(real, lambda: denoising_residual(BASE, real), generated),
        seed=0,
    )


def settings(**changes: object) -> Fit:
    fields = {"epochs": 4, "checkpoints": (2, 4), "batch_size": 10, "learning_rate": 1e-3}
    return Fit.model_validate({**fields, **changes})


def start(replicates: list[int], chosen: Fit) -> TrainingState:
    generators = [named_generator("initial", r) for r in replicates]
    return TrainingState.start(
        initialise_conv(SHAPE, 0.5, generators),
        replicates=replicates,
        weight_decay=chosen.weight_decay,
        ema_decay=chosen.ema_decay,
        patience=chosen.patience,
    )


def run(replicates: list[int], chosen: Fit, problem: Task | None = None) -> list[FitCheckpoint]:
    schedule = build_training_schedule(chosen)
    return list(fit(problem or task(replicates), schedule, start(replicates, chosen)))


def weights(checkpoint: FitCheckpoint) -> dict[str, Tensor]:
    assert isinstance(checkpoint.ensemble, ConvNet)
    return dict(checkpoint.ensemble.parameters)


@pytest.mark.parametrize("objective", [Kl(), CrossEntropy(0.1)], ids=["kl", "penalised"])
def test_replicates_together_are_replicates_apart(objective: Objective) -> None:
    chosen = settings(**EVERYTHING)
    together = run([0, 1, 2], chosen, task([0, 1, 2], objective))[-1]
    for r in range(3):
        apart = run([r], chosen, task([r], objective))[-1]
        for name, tensor in weights(apart).items():
            torch.testing.assert_close(
                weights(together)[name][r], tensor[0], rtol=1e-3, atol=1e-4, msg=name
            )
        assert together.stopped_epochs[r] == apart.stopped_epochs[0]


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_resumed_is_undisturbed_to_the_bit(options: dict[str, object]) -> None:
    chosen = settings(**options)
    undisturbed = run([0, 1], chosen)
    state = start([0, 1], chosen)
    next(iter(fit(task([0, 1]), build_training_schedule(chosen), state)))
    again = start([0, 1], chosen)
    again.load_bytes(state.to_bytes())
    (resumed,) = fit(task([0, 1]), build_training_schedule(chosen), again)
    assert resumed.epoch == 4
    for name, tensor in weights(undisturbed[-1]).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_training_lowers_the_loss() -> None:
    problem = dataclasses.replace(task([0, 1]), validation=None)
    chosen = settings(epochs=40, checkpoints=(1, 40), learning_rate=3e-3)
    first, last = run([0, 1], chosen, problem)
    generator = named_generator("again")
    clean = problem.real.repeat(1, 20, 1)
    sigma = log_uniform(torch.rand(2, 600, generator=generator), 0.05, 5.0)
    real = Noised.of(clean, torch.randn(clean.shape, generator=generator), sigma)
    training = Batch(real, lambda: denoising_residual(BASE, real), None)
    before, after = (Kl()(Outputs(c.ensemble, training)).mean(-1).detach() for c in (first, last))
    assert (after < 0.95 * before).all()


def test_labels_reach_the_network_and_train_it() -> None:
    """Real labels tell the component; with them the label embedding moves, without it does not."""
    problem = task([0, 1])
    nearest = (problem.real @ DATA.means.T).argmax(-1)
    made = (problem.generated @ DATA.means.T).argmax(-1) if problem.generated is not None else None
    labelled = dataclasses.replace(problem, real_labels=nearest, generated_labels=made)
    chosen = settings(epochs=2, checkpoints=(2,))
    before = start([0, 1], chosen).ensemble.tensors
    for inputs, moves in ((problem, False), (labelled, True)):
        (after,) = run([0, 1], chosen, inputs)
        index = list(weights(after)).index("label.weight")
        assert (not torch.equal(after.ensemble.tensors[index], before[index])) is moves
