"""One trial from its plan to its rows: a generator that does not depend on where it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from dgray.discriminator.fit import FitCheckpoint, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import CrossEntropy, Objective
from dgray.plan.plan import Trial
from dgray.problem.build import (
    build_device,
    build_problem,
    build_task,
    build_training,
    build_training_schedule,
)
from dgray.problem.compute_process import prepare_process
from dgray.problem.correction import as_correction, build_untrained
from dgray.problem.failure import Made
from dgray.problem.flops import training_flops
from dgray.problem.make_shared import shared_of
from dgray.problem.objective import build_objective
from dgray.record.row import CheckpointResult, LossPoint, Resume, Save, no_state
from dgray.trial.noised_splits import training_batch
from dgray.trial.score import Checkpoint, Scoring, evaluate_checkpoint
from dgray.trial.shards import RunShards


def run_trial(
    trial: Trial,
    artifacts: Mapping[str, Made],
    *,
    resume: Resume = no_state,
    run_shards: RunShards | None = None,
    report: Callable[[float], None] | None = None,
    save: Save | None = None,
) -> Iterator[CheckpointResult]:
    """Train and evaluate one configuration; yield a result per epoch of ``trial.epochs``.

    The metric columns are a function of the trial alone: process state that they could depend on
    (threads, seeds) is set here.

    Args:
        trial: trial to run; ``epochs`` may be some of its checkpoints only.
        artifacts: its shared artifacts by key (``dgray.problem.shared.build_artifacts``).
        resume: stored ``CheckpointResult.state`` to continue from; one of the same epoch is only
            evaluated.
        run_shards: draws images; None: this process.
        report: called after every step of the training with the epochs so far.
        save: called between checkpoints with an epoch, and a function that returns a state to
            continue from.

    Raises:
        FloatingPointError: if training diverges.
    """
    prepare_process(trial.config.resources.cpus_per_trial)
    shared = shared_of(trial.config, artifacts)
    problem = build_problem(trial.config, shared, build_device(trial.config))
    scoring = Scoring.build(trial, problem, shared, run_shards)
    if trial.is_trained:
        yield from _train(trial, scoring, resume, report, save)
    else:
        control = build_untrained(trial.config, trial.objective, problem)
        checkpoint = Checkpoint(0, [control], CrossEntropy(), [None])
        yield evaluate_checkpoint(trial, scoring, checkpoint)


def _saver(save: Save) -> Callable[[TrainingState], None]:
    return lambda state: save(state.epoch, state.to_bytes)


def _train(
    trial: Trial,
    scoring: Scoring,
    resume: Resume,
    report: Callable[[float], None] | None,
    save: Save | None,
) -> Iterator[CheckpointResult]:
    """Train all replicates as one ensemble, from stored states where there are any."""
    config, problem = trial.config, scoring.problem
    replicates = range(trial.replicates)
    state: TrainingState | None = None
    task = build_task(config, problem, replicates)
    schedule = build_training_schedule(config.fit)
    objective: Objective = CrossEntropy()  # not read if the correction has no discriminator
    if config.correction.spec.needs_discriminator:
        objective = build_objective(config.fit, problem.span)
    flops = training_flops(config, problem) * problem.sizes.num_real
    training = [training_batch(problem, replicate) for replicate in replicates]
    for epoch in trial.epochs:
        stored = resume(epoch)
        if state is None or (stored is not None and stored[0] > state.epoch):
            content = None if stored is None else stored[1]
            state = build_training(config, problem, replicates, content)
        if state.epoch == epoch:
            step = FitCheckpoint(epoch, state.evaluated(), (), state.stopped_epochs, 0.0)
        else:
            until = replace(schedule, checkpoints=(epoch,))
            step = next(fit(task, until, state, report, save and _saver(save)))
        checkpoint = Checkpoint(
            step.epoch,
            [as_correction(config, step.ensemble.member(r)) for r in replicates],
            objective,
            training,
            stopped_epochs=step.stopped_epochs,
            num_parameters=step.ensemble.num_parameters,
            train_flops=round(flops * step.epoch),
            seconds_fit=step.seconds,
            losses=tuple(
                LossPoint(trial=trial.id, replicate=r, epoch=loss_epoch, loss_train=float(loss[r]))
                for loss_epoch, loss in step.losses
                for r in replicates
                if not loss[r].isnan()
            ),
            state=state.to_bytes(),
        )
        yield evaluate_checkpoint(trial, scoring, checkpoint)
