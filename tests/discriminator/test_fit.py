"""Training: replicates together or apart, interrupted or not, are the same; options work."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from dgray.config.training import Fit
from dgray.data.mixtures import NAMED
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_uniform
from dgray.discriminator.fit import FitCheckpoint, Task, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.mlp import Mlp, MlpShape, initialise
from dgray.discriminator.objective import (
    Batch,
    CrossEntropy,
    Kl,
    Mixed,
    Noised,
    Objective,
    ObjectiveLoss,
    Outputs,
    denoising_residual,
)
from dgray.problem.build import build_training_schedule

DATA = NAMED["ring8"]().to("cpu", torch.float32)
BASE = GaussianMixture(DATA.means, DATA.stds * 1.5, DATA.weights)
OBJECTIVES: dict[str, Objective] = {
    "cross_entropy": CrossEntropy(),
    "penalised": CrossEntropy(0.1),
    "kl": Kl(),
    "mixed": Mixed(0.5),
}


def task(replicates: list[int], objective: str = "kl", validate: bool = False) -> Task:
    real = [DATA.sample(50, named_generator(0, "real", r)) for r in replicates]
    generated = [BASE.sample(70, named_generator(0, "generated", r)) for r in replicates]
    return Task(
        real=torch.stack(real),
        generated=torch.stack(generated),
        base=BASE,
        loss=ObjectiveLoss(OBJECTIVES[objective]),
        draw_sigma=lambda g, n: log_uniform(torch.rand(n, generator=g), 0.02, 20.0),
        weigh=torch.ones_like,
        validation=validation_batch() if validate else None,
        seed=0,
    )


def validation_batch() -> Batch:
    generator = named_generator(0, "validation")
    sigma = log_uniform(torch.rand(1, 200, generator=generator), 0.02, 20.0)
    real, generated = (
        Noised.of(
            law.sample(200, generator)[None], torch.randn(1, 200, 2, generator=generator), sigma
        )
        for law in (DATA, BASE)
    )
    return Batch(real, lambda: denoising_residual(BASE, real), generated)


def start(replicates: list[int], settings: Fit) -> TrainingState:
    shape = MlpShape(dimension=2, width=16, depth=2)
    mlp = initialise(shape, 1.4, [named_generator(0, "initial", r) for r in replicates])
    return TrainingState.start(
        mlp,
        replicates=replicates,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        patience=settings.patience,
    )


def run(replicates: list[int], settings: Fit, objective: str = "kl") -> list[FitCheckpoint]:
    problem = task(replicates, objective, validate=settings.patience > 0)
    return list(fit(problem, build_training_schedule(settings), start(replicates, settings)))


def settings(**changes: object) -> Fit:
    fields = {"epochs": 6, "checkpoints": (2, 6), "batch_size": 20, "learning_rate": 1e-2}
    return Fit.model_validate({**fields, **changes})


EVERYTHING = {
    "dropout": 0.2,
    "ema_decay": 0.9,
    "weight_decay": 0.1,
    "learning_rate_decay": "cosine",
    "patience": 3,
    "validate_every": 1,
}


def assert_equal_weights(first: Mlp, second: Mlp, **tolerance: float) -> None:
    for a, b in zip(first.tensors, second.tensors, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def curve(checkpoint: FitCheckpoint, replicate: int) -> dict[int, float]:
    points = {epoch: float(loss[replicate]) for epoch, loss in checkpoint.losses}
    return {epoch: loss for epoch, loss in points.items() if not math.isnan(loss)}


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_replicates_together_are_replicates_apart(
    objective: str, options: dict[str, object]
) -> None:
    """Exact case 8."""
    together = run([0, 1, 2], settings(**options), objective)[-1]
    for r in range(3):
        apart = run([r], settings(**options), objective)[-1]
        assert_equal_weights(
            together.ensemble.member(r), apart.ensemble.member(0), rtol=1e-3, atol=1e-5
        )
        assert curve(together, r) == pytest.approx(curve(apart, 0), rel=1e-4)


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_resumed_is_undisturbed_to_the_bit(options: dict[str, object]) -> None:
    chosen = settings(**options)
    undisturbed = run([0, 1], chosen)
    state = start([0, 1], chosen)
    problem = task([0, 1], validate=chosen.patience > 0)
    next(iter(fit(problem, build_training_schedule(chosen), state)))
    saved = state.to_bytes()
    again = start([0, 1], chosen)
    again.load_bytes(saved)
    assert again.epoch == 2
    resumed = list(fit(problem, build_training_schedule(chosen), again))
    assert [c.epoch for c in resumed] == [6]
    assert_equal_weights(resumed[0].ensemble, undisturbed[1].ensemble)
    for (e1, l1), (e2, l2) in zip(resumed[0].losses, undisturbed[1].losses, strict=True):
        assert e1 == e2
        assert torch.equal(l1.nan_to_num(-1), l2.nan_to_num(-1))
    assert resumed[0].stopped_epochs == undisturbed[1].stopped_epochs


def test_checkpoints_and_loss_points_are_where_they_were_asked_for() -> None:
    checkpoints = run([0], settings(epochs=30, checkpoints=(1, 7, 20)))
    assert [c.epoch for c in checkpoints] == [1, 7, 20]
    epochs = [epoch for c in checkpoints for epoch, _ in c.losses]
    assert epochs == sorted(set(epochs))
    assert {1, 7, 20} <= set(epochs)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_training_lowers_the_loss(objective: str) -> None:
    first, last = run([0, 1], settings(epochs=150, checkpoints=(1, 150)), objective)
    problem, generator = task([0, 1]), torch.Generator().manual_seed(0)
    sigma = log_uniform(torch.rand(2, 2000, generator=generator), 0.02, 20.0)
    real, generated = (
        Noised.of(
            clean.repeat(1, 40, 1)[:, :2000], torch.randn(2, 2000, 2, generator=generator), sigma
        )
        for clean in (problem.real, problem.generated)
    )
    training = Batch(real, lambda: denoising_residual(BASE, real), generated)

    def loss(checkpoint: FitCheckpoint) -> Tensor:
        return OBJECTIVES[objective](Outputs(checkpoint.ensemble, training)).mean(-1)

    assert (loss(last) < loss(first)).all()


def test_average_is_the_exponential_one() -> None:
    decay = 0.7
    plain, averaged = (settings(epochs=1, checkpoints=(1,), ema_decay=d) for d in (0.0, decay))
    state = start([0], averaged)
    expected = [t.detach().clone() for t in state.ensemble.tensors]
    problem = task([0])
    steps: list[list[Tensor]] = []
    original = TrainingState.step

    class Recording(TrainingState):
        def step(self, loss: Tensor, learning_rate: float) -> None:
            original(self, loss, learning_rate)
            steps.append([t.detach().clone() for t in self.ensemble.tensors])

    recording = Recording(**{f.name: getattr(state, f.name) for f in dataclasses.fields(state)})
    (checkpoint,) = fit(problem, build_training_schedule(averaged), recording)
    for tensors in steps:
        expected = [decay * e + (1 - decay) * t for e, t in zip(expected, tensors, strict=True)]
    assert len(steps) == 3  # 50 samples in batches of 20
    for e, t in zip(expected, checkpoint.ensemble.tensors, strict=True):
        torch.testing.assert_close(e, t)
    (unaveraged,) = run([0], plain)
    assert_equal_weights(unaveraged.ensemble, task_weights(steps[-1], state.ensemble))


def task_weights(tensors: list[Tensor], mlp: Mlp) -> Mlp:
    return mlp.with_tensors(tensors)


def test_early_stopping_keeps_the_best_weights_of_each_replicate() -> None:
    """A huge learning rate makes validation losses jump, so that the best is not the last."""
    chosen = settings(
        epochs=40, checkpoints=(40,), patience=15, validate_every=1, learning_rate=0.1
    )
    (checkpoint,) = run([0, 1, 2], chosen)
    problem = task([0, 1, 2], validate=True)
    assert problem.validation is not None
    every = settings(epochs=40, checkpoints=tuple(range(1, 41)), learning_rate=0.1)
    losses = torch.stack(
        [Kl()(Outputs(c.ensemble, problem.validation)).mean(-1) for c in run([0, 1, 2], every)]
    )  # (epochs, R)
    for r, epoch in enumerate(checkpoint.stopped_epochs):
        until_stop = losses[: epoch + 15, r]
        assert int(until_stop.argmin()) + 1 == epoch
        kept = Kl()(Outputs(checkpoint.ensemble, problem.validation)).mean(-1)[r]
        assert float(kept) == pytest.approx(float(until_stop.min()), rel=1e-5)


def test_before_the_first_validation_early_stopping_keeps_nothing() -> None:
    chosen = settings(epochs=8, checkpoints=(3, 8), patience=5, validate_every=5)
    early, late = run([0, 1], chosen)
    assert early.stopped_epochs == (None, None)
    assert late.stopped_epochs == (5, 5)
    plain = run([0, 1], settings(epochs=8, checkpoints=(3, 5, 8)))
    assert_equal_weights(early.ensemble, plain[0].ensemble)
    assert_equal_weights(late.ensemble, plain[1].ensemble)


def test_weight_decay_shrinks_and_cosine_ends_still() -> None:
    def norm(checkpoint: FitCheckpoint) -> float:
        return math.sqrt(sum(float((t**2).sum()) for t in checkpoint.ensemble.weights))

    long = {"epochs": 60, "checkpoints": (59, 60)}
    plain, decayed = (
        run([0], settings(**long))[-1],
        run([0], settings(**long, weight_decay=1.0))[-1],
    )
    assert norm(decayed) < norm(plain)

    def last_move(chosen: Fit) -> float:
        before, after = run([0], chosen)
        pairs = zip(before.ensemble.tensors, after.ensemble.tensors, strict=True)
        return max(float((a - b).abs().max()) for a, b in pairs)

    cosine = last_move(settings(**long, learning_rate_decay="cosine"))
    assert cosine < 0.1 * last_move(settings(**long))


def test_the_error_of_a_diverging_training_names_replicates_and_fix() -> None:
    with pytest.raises(FloatingPointError, match=r"finite.*lower fit\.learning_rate"):
        run([0, 1], settings(learning_rate=1e9))
