"""One trial from its plan to its rows: a plain generator that does not know where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from dgray.diffusion.noise import named_generator
from dgray.discriminator.fit import Task, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import Batch, CrossEntropy, Noised, denoising_residual
from dgray.plan.plan import Trial
from dgray.problem.build import (
    build_control,
    build_device,
    build_discriminator,
    build_noise_law,
    build_objective,
    build_problem,
    build_training_schedule,
    build_weighting,
)
from dgray.problem.problem import Problem, stacked, training_split
from dgray.record.row import CheckpointResult, LossPoint
from dgray.trial.noised_splits import training_batch
from dgray.trial.score import Checkpoint, Scoring, evaluate_checkpoint
from dgray.trial.score_images import RunShards


def run_trial(
    trial: Trial,
    artifacts: Mapping[str, bytes],
    *,
    resume: tuple[int, bytes] | None = None,
    run_shards: RunShards | None = None,
) -> Iterator[CheckpointResult]:
    """Train and evaluate one configuration; yields a result per epoch of ``trial.epochs``.

    Args:
        trial: what to run.
        artifacts: what ``dgray.problem.shared.build_artifacts`` made for it.
        run_shards: who draws images; None: this process.
        resume: epoch and ``CheckpointResult.state`` to continue from; only later epochs follow.

    The metric columns are a function of the trial alone: process state that they could depend on
    (threads, seeds) is set here.

    Raises:
        FloatingPointError: when training diverges.
    """
    torch.set_num_threads(trial.config.resources.cpus_per_trial)
    problem = build_problem(trial.config, artifacts, build_device(trial.config))
    scoring = Scoring.build(trial, problem, artifacts, run_shards)
    if trial.is_trained:
        yield from _train(trial, scoring, resume)
    elif resume is None:
        control = build_control(trial.objective, problem)
        checkpoint = Checkpoint(0, [control], CrossEntropy(), [None])
        yield evaluate_checkpoint(trial, scoring, checkpoint)


def _train(
    trial: Trial, scoring: Scoring, resume: tuple[int, bytes] | None
) -> Iterator[CheckpointResult]:
    problem, settings = scoring.problem, trial.config.fit
    replicates = range(trial.replicates)
    state = TrainingState.start(
        build_discriminator(problem, replicates),
        replicates=replicates,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        patience=settings.patience,
    )
    if resume is not None:
        state.load_bytes(resume[1])
    task = build_task(problem, replicates)
    training = [training_batch(problem, replicate) for replicate in replicates]
    for at in fit(task, build_training_schedule(settings), state):
        members = [at.discriminator.member(i) for i in replicates]
        checkpoint = Checkpoint(
            at.epoch,
            members,
            build_objective(settings),
            training,
            stopped_epochs=at.stopped_epochs,
            num_parameters=at.discriminator.num_parameters,
            seconds_fit=at.seconds,
            losses=tuple(
                LossPoint(trial=trial.id, replicate=r, epoch=epoch, loss_train=float(loss[r]))
                for epoch, loss in at.losses
                for r in replicates
                if not loss[r].isnan()
            ),
            state=state.to_bytes(),
        )
        yield evaluate_checkpoint(trial, scoring, checkpoint)


def build_task(problem: Problem, replicates: range) -> Task:
    """What a trial's ensemble is to learn, in float32 on the problem's device."""
    config = problem.config
    splits = [training_split(r) for r in replicates]
    real, real_labels = stacked(problem.real_samples, splits, problem.num_real)
    generated, labels = None, None
    if config.fit.objective.spec.needs_generated:
        source = problem.generated_samples
        assert source is not None  # artifacts hold them where an objective needs them
        generated, labels = stacked(source, splits, config.base.num_generated)
    asks = problem.num_classes > 0
    return Task(
        real=real,
        real_labels=real_labels if asks else None,
        generated=generated,
        generated_labels=labels if asks else None,
        base=problem.base,
        objective=build_objective(config.fit),
        draw_sigma=build_noise_law(config.fit.noise, problem.span),
        weigh=build_weighting(config.fit, problem.sigma_data),
        validation=_validation_batch(problem) if config.fit.patience else None,
        seed=config.seed,
    )


@torch.no_grad()
def _validation_batch(problem: Problem) -> Batch:
    """The validation split at one noise level a point, for early stopping; shape (1, N, d)."""
    config = problem.config
    count = config.data.num_validation
    generator = named_generator(config.seed, "noise", "early stopping")
    sigma = build_noise_law(config.fit.noise, problem.span)(generator, count)
    noised = []
    pairs = (
        (problem.real("validation", count), problem.real_labels("validation", count)),
        (problem.generated("validation", count), problem.generated_labels("validation", count)),
    )
    for clean, labels in pairs:
        noise = torch.randn(clean.shape, generator=generator)
        x, n, s = (t.to(problem.device, torch.float32)[None] for t in (clean, noise, sigma))
        noised.append(Noised.of(x, n, s, None if labels is None else labels[None]))
    residual = denoising_residual(problem.base, noised[0]).float()
    return Batch(noised[0], residual, noised[1])
