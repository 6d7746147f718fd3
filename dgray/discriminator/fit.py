"""Training of an ensemble of discriminators or corrections, as a generator of checkpoints.

All randomness of an epoch comes from generators named (seed, replicate, epoch), so a resumed
training draws the same numbers as an uninterrupted one, and replicates trained together draw the
same numbers as each alone. Printing, files and Ray belong to the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from dgray.data.images import to_unit
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.noise import named_generator, on_device
from dgray.discriminator.discriminator import Trainable
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import Batch, Loss, Noised, denoising_residual
from dgray.discriminator.time_score import time_residual

BLOCK_VALUES = 2**25  # numbers of noise that are drawn at once


@dataclass(frozen=True, kw_only=True)
class TrainingSchedule:
    """Length of a training, its checkpoints and its optimisation settings.

    Attributes:
        epochs: passes over the real samples, >= 1; the learning rate decays over them.
        checkpoints: epochs at which ``fit`` yields, increasing, <= ``epochs``.
        batch_size: real samples per step, and as many generated ones, >= 1.
        learning_rate: learning rate of AdamW, > 0.
        is_cosine: decay the learning rate to zero along a cosine; else it is constant.
        dropout: probability that a hidden unit is dropped, in [0, 1).
        patience: epochs without a better validation loss before early stopping; 0: off.
        validate_every: epochs between two validation losses, >= 1.
    """

    epochs: int
    checkpoints: tuple[int, ...]
    batch_size: int
    learning_rate: float
    is_cosine: bool = False
    dropout: float = 0.0
    patience: int = 0
    validate_every: int = 10


@dataclass(frozen=True)
class Task:
    """Samples, base and loss of a training of R replicates.

    Tensors are float32 and on the training device. Images may be uint8 instead; they are scaled to
    [-1, 1] a batch at a time.

    Attributes:
        real: training samples, shape (R, n, d).
        generated: samples of the base, shape (R, m, d); None if the loss needs none.
        base: the denoiser to be corrected.
        loss: loss of each sample.
        draw_sigma: maps a generator and a count to that many noise levels, shape (count,).
        weigh: maps noise levels to factors on the loss, of the same shape.
        validation: fixed batch for early stopping, shape (1, N, d); None: no early stopping.
        seed: seed of the study.
        real_labels: classes, int64, shape (R, n); None if no model is conditional.
        generated_labels: classes for which the base's samples were drawn, int64, shape (R, m).
    """

    real: Shaped[Tensor, "R n d"]
    generated: Shaped[Tensor, "R m d"] | None
    base: Denoiser
    loss: Loss
    draw_sigma: Callable[[torch.Generator, int], Tensor]
    weigh: Callable[[Tensor], Tensor]
    validation: Batch | None
    seed: int
    real_labels: Int64[Tensor, "R n"] | None = None
    generated_labels: Int64[Tensor, "R m"] | None = None


@dataclass(frozen=True)
class FitCheckpoint:
    """Ensemble at one of the checkpoint epochs.

    Attributes:
        epoch: passes over the real samples so far.
        ensemble: the weights to evaluate (averaged, or early-stopped, if so configured).
        losses: (epoch, mean training loss since the last entry, shape (R,)); nan for a replicate
            that early stopping has ended.
        stopped_epochs: epoch whose weights early stopping kept, per replicate; None before one.
        seconds: wall time since the last checkpoint.
    """

    epoch: int
    ensemble: Trainable
    losses: tuple[tuple[int, Tensor], ...]
    stopped_epochs: tuple[int | None, ...]
    seconds: float


def fit(
    task: Task,
    schedule: TrainingSchedule,
    state: TrainingState,
    report: Callable[[float], None] | None = None,
    save: Callable[[TrainingState], None] | None = None,
) -> Iterator[FitCheckpoint]:
    """Train from ``state``, which is changed in place, and yield at every later checkpoint.

    Args:
        task: samples, base and loss.
        schedule: length and checkpoints.
        state: start of the training.
        report: called after every step with the epochs so far, a fraction included.
        save: called at epochs between checkpoints from whose state the training can be resumed
            with the same results, 12 per decade.

    Raises:
        FloatingPointError: the loss of a replicate is no longer finite.
    """
    checkpoints = [e for e in schedule.checkpoints if e > state.epoch]
    points = _loss_epochs(schedule)
    started, pending = time.monotonic(), list[Tensor]()
    for epoch in range(state.epoch + 1, checkpoints[-1] + 1 if checkpoints else 0):
        if not state.has_ended:
            pending += _run_epoch(task, schedule, state, epoch, report)
        state.epoch = epoch
        if task.validation is not None and epoch % schedule.validate_every == 0:
            state.keep_best(_validation_loss(task, state), schedule.patience)
        if pending and (epoch in points or epoch in checkpoints):
            state.losses.append((epoch, _finite_mean(pending, state)))
            pending = []
        if epoch in points or epoch in checkpoints:
            state.seconds += time.monotonic() - started
            started = time.monotonic()
        if epoch in checkpoints:
            losses, seconds = tuple(state.losses), state.seconds
            state.losses, state.seconds = [], 0.0
            yield FitCheckpoint(epoch, state.evaluated(), losses, state.stopped_epochs, seconds)
            started = time.monotonic()
        elif epoch in points and save is not None:
            save(state)


def _run_epoch(
    task: Task,
    schedule: TrainingSchedule,
    state: TrainingState,
    epoch: int,
    report: Callable[[float], None] | None,
) -> list[Tensor]:
    """Make one pass over the real samples; return the loss of each step, shape (R,)."""
    generators = [
        named_generator(task.seed, "fit", replicate, epoch) for replicate in state.replicates
    ]
    count = task.real.shape[1]
    size = min(schedule.batch_size, count)
    steps = math.ceil(count / size)
    losses = []
    for i, batch in enumerate(_draw_epoch(task, generators, size)):
        ensemble: Any = state.ensemble
        if schedule.dropout:
            ensemble = state.ensemble.dropped(schedule.dropout, generators, batch.size)
        loss = task.loss(ensemble, batch) * task.weigh(batch.real.sigma)
        per_replicate = loss.mean(-1)
        progress = ((epoch - 1) * steps + i) / (schedule.epochs * steps)
        state.step(per_replicate.sum(), _learning_rate(schedule, progress))
        losses.append(torch.where(state.stopped, torch.nan, per_replicate.detach()))
        if report is not None:
            report(epoch - 1 + (i + 1) / steps)
    return losses


def _draw_epoch(task: Task, generators: list[torch.Generator], size: int) -> Iterator[Batch]:
    """Yield the batches of an epoch: samples in random order with new noise, (R, size, d).

    Many batches are drawn at once, which is faster: a whole epoch, or as many as fit in memory.
    """
    replicates, count, dimension = task.real.shape
    order = torch.stack([torch.randperm(count, generator=g) for g in generators])
    order = on_device(order, task.real.device)
    at_once = size * max(1, BLOCK_VALUES // (replicates * size * dimension))
    for start in range(0, count, at_once):
        block = _draw_block(task, generators, order[:, start : start + at_once])
        for first in range(0, block.size, size):
            yield block.rows(first, min(first + size, block.size))


@torch.no_grad()
def _draw_block(task: Task, generators: list[torch.Generator], order: Tensor) -> Batch:
    """Return the real samples ``order`` (R, k) noised, and as many generated ones, (R, k, d)."""
    count, dimension = order.shape[1], task.real.shape[2]
    device = task.real.device
    sigma = on_device(torch.stack([task.draw_sigma(g, count) for g in generators]), device)
    noise = on_device(_normal(generators, (count, dimension)), device)
    clean, labels = _gather(task.real, order), _labels_at(task.real_labels, order)
    real = Noised.of(clean, noise, sigma, labels)

    def of_base(compute: Callable[[Denoiser, Noised], Tensor]) -> Tensor:
        # in double precision, since x - D cancels at low sigma
        exact = Noised.of(clean.double(), noise.double(), sigma.double(), labels)
        return compute(task.base, exact).to(noise)

    residual, time_of_base = partial(of_base, denoising_residual), partial(of_base, time_residual)
    if task.generated is None:
        return Batch(real, residual, None, time_of_base)
    pool = task.generated.shape[1]
    chosen = torch.stack([torch.randint(pool, (count,), generator=g) for g in generators])
    chosen = on_device(chosen, device)
    generated = Noised.of(
        _gather(task.generated, chosen),
        on_device(_normal(generators, (count, dimension)), device),
        sigma,
        _labels_at(task.generated_labels, chosen),
    )
    return Batch(real, residual, generated, time_of_base)


def _normal(generators: list[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


def _gather(
    points: Shaped[Tensor, "R n d"], order: Int64[Tensor, "R k"]
) -> Float[Tensor, "R k d"]:
    """Return points (R, n, d) in the order (R, k) of each replicate, shape (R, k, d)."""
    taken = points.gather(1, order[..., None].expand(*order.shape, points.shape[-1]))
    return to_unit(taken) if taken.dtype == torch.uint8 else taken


def _labels_at(labels: Tensor | None, order: Tensor) -> Tensor | None:
    return None if labels is None else labels.gather(1, order)


@torch.no_grad()
def _validation_loss(task: Task, state: TrainingState) -> Float[Tensor, "R"]:
    """Return the loss of the current weights (averaged, if so configured), shape (R,)."""
    assert task.validation is not None
    loss = task.loss(state.averaged(), task.validation)
    return (loss * task.weigh(task.validation.real.sigma)).mean(-1)


def _learning_rate(schedule: TrainingSchedule, progress: float) -> float:
    """Return the learning rate after a share of all steps, in [0, 1)."""
    if not schedule.is_cosine:
        return schedule.learning_rate
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _loss_epochs(schedule: TrainingSchedule, per_decade: int = 12) -> set[int]:
    """Return the epochs of the loss curve: the first few, then a geometric series."""
    count = math.ceil(math.log10(schedule.epochs) * per_decade) + 1
    return {round(10 ** (i / per_decade)) for i in range(count)}


def _finite_mean(losses: list[Tensor], state: TrainingState) -> Float[Tensor, "R"]:
    """Return the mean over steps, shape (R,), without those after a replicate was stopped."""
    values = torch.stack(losses)
    if not torch.isfinite(values[:, ~state.stopped]).all():
        bad = torch.nonzero(~torch.isfinite(values).all(0)).flatten().tolist()
        raise FloatingPointError(
            f"the training loss must be finite, but by epoch {state.epoch} that of replicates "
            f"{bad} is not; lower fit.learning_rate, or fit.weight_decay if it is not 0"
        )
    return values.nanmean(0)
