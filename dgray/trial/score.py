"""From a discriminator ensemble at a checkpoint to the rows and pictures of it."""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgray.discriminator.discriminator import Discriminator
from dgray.discriminator.guidance import SplineWeight
from dgray.discriminator.objective import Batch, Objective, Outputs
from dgray.metrics.distances import nearest_index
from dgray.plan.plan import Setting, Trial
from dgray.plan.shared_keys import likelihood_key
from dgray.problem.problem import Problem, training_split
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from dgray.trial.noised_splits import EvaluationSet, build_evaluation_set
from dgray.trial.sampling import (
    SampleReference,
    draw,
    score_memorisation,
    score_samples,
)
from dgray.trial.score_discriminator import (
    Calibrated,
    Columns,
    Reference,
    calibrated_weights,
    score_discriminator,
    score_flow,
    score_path,
)
from dgray.trial.score_images import SHOWN, ImageScoring, RunShards
from dgray.trial.score_validation import Validation
from dgray.trial.setting_weight import acting_weight

CLOUD_POINTS = 1000


@dataclass(frozen=True)
class Scoring:
    """What each checkpoint of a trial is scored against; ``reference`` only for kl and nll."""

    problem: Problem
    sets: EvaluationSet
    samples: SampleReference
    images: ImageScoring | None
    reference: Reference | None
    validation: Validation

    @staticmethod
    def build(
        trial: Trial,
        problem: Problem,
        artifacts: Mapping[str, bytes],
        run_shards: RunShards | None = None,
    ) -> Scoring:
        """Compute it once for a trial; ``run_shards`` draws images, if not this process."""
        sets = build_evaluation_set(problem)
        samples = SampleReference.build(problem, trial.settings)
        images = (
            None if problem.shape is None else ImageScoring.build(problem, artifacts, run_shards)
        )
        validation = Validation.build(problem, artifacts)
        if not trial.config.evaluate.has_metric(source="flow"):
            return Scoring(problem, sets, samples, images, None, validation)
        reference = Reference.read(problem, artifacts[likelihood_key(trial.config)])
        return Scoring(problem, sets, samples, images, reference, validation)


@dataclass(frozen=True)
class Checkpoint:
    """An ensemble at one epoch, and what is known of its training.

    Attributes:
        epoch: passes over the real samples.
        members: one discriminator a replicate.
        objective: the loss that is reported.
        training: noised training samples of each replicate; None for controls.
        stopped_epochs: see ``FitCheckpoint``.
        num_parameters: of one member.
        seconds_fit: training time since the last checkpoint.
        losses: the loss curve since the last checkpoint.
        state: resumes the training.
    """

    epoch: int
    members: Sequence[Discriminator]
    objective: Objective
    training: Sequence[Batch | None]
    stopped_epochs: tuple[int | None, ...] | None = None
    num_parameters: int | None = None
    seconds_fit: float = 0.0
    losses: tuple[LossPoint, ...] = ()
    state: bytes | None = None


@torch.no_grad()
def evaluate_checkpoint(
    trial: Trial, scoring: Scoring, checkpoint: Checkpoint
) -> CheckpointResult:
    """Every replicate at every setting, and the samples of the first replicate."""
    started = time.monotonic()
    rows: list[Row] = []
    clouds: list[Cloud] = []
    for replicate in range(len(checkpoint.members)):
        columns, drawn = _evaluate_replicate(trial, scoring, checkpoint, replicate)
        rows += [
            _row(trial, scoring, checkpoint, (replicate, s), columns[s]) for s in trial.settings
        ]
        if replicate == 0:
            clouds = _clouds(trial, scoring.problem, checkpoint.epoch, drawn)
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    seconds = time.monotonic() - started
    return CheckpointResult(
        trial=trial.id,
        epoch=checkpoint.epoch,
        rows=tuple(replace(r, seconds_evaluate=seconds, finished_at=finished) for r in rows),
        clouds=tuple(clouds),
        losses=checkpoint.losses,
        state=checkpoint.state,
    )


def _evaluate_replicate(
    trial: Trial, scoring: Scoring, checkpoint: Checkpoint, replicate: int
) -> tuple[dict[Setting, Columns], dict[Setting, Tensor]]:
    """Columns of every setting of one replicate, and the samples that were drawn."""
    member, training = checkpoint.members[replicate], checkpoint.training[replicate]
    intervals = {setting.interval for setting in trial.settings}
    calibrated, moments = calibrated_weights(member, scoring.sets, intervals)
    held_out = Outputs(member, scoring.sets.held_out)
    trained = None if training is None else Outputs(member, training)
    shared = score_discriminator(held_out, trained, scoring.sets, checkpoint.objective)
    weights = [acting_weight(setting, calibrated) for setting in trial.settings]
    paths = score_path(held_out, scoring.sets, weights, moments)
    columns: dict[Setting, Columns] = {}
    for setting, path in zip(trial.settings, paths, strict=True):
        knots = _knots(calibrated[setting.interval]) if setting.is_calibrated else {}
        columns[setting] = {**shared, **path, **knots}
    for reference in (scoring.reference, scoring.validation.reference):
        for setting, flow in _flows(trial, scoring, member, calibrated, reference).items():
            columns[setting] |= flow
    wanted = [s for s in trial.settings if replicate == 0 or _has_sample_metric(trial, s)]
    shown: dict[Setting, Tensor] = {}
    if scoring.images is not None:
        of_training = None if training is None else replicate
        found = scoring.images.draw(member, calibrated, wanted, of_training)
        for setting, images in found.items():
            columns[setting] |= scoring.images.score(images)
            columns[setting] |= scoring.validation.of_images(scoring.images, images)
            shown[setting] = images.shown
        return columns, shown
    for setting, samples in draw(scoring.problem, member, calibrated, wanted).items():
        columns[setting] |= score_samples(scoring.problem, setting, samples, scoring.samples)
        columns[setting] |= scoring.validation.of_samples(setting, samples.samples)
        if training is not None and "memorisation" in trial.config.evaluate.metric_names:
            columns[setting] |= score_memorisation(scoring.problem, samples, replicate)
        shown[setting] = samples.samples
    return columns, shown


def _flows(
    trial: Trial,
    scoring: Scoring,
    member: Discriminator,
    calibrated: Calibrated,
    reference: Reference | None,
) -> dict[Setting, Columns]:
    """``kl`` of each deterministic setting; those of the same acting weight share one integral."""
    acting = {s: acting_weight(s, calibrated) for s in trial.settings if s.sampler == "ode"}
    distinct = list(dict.fromkeys(acting.values()))
    if reference is None or not distinct:
        return {}
    scores = score_flow(member, scoring.sets, distinct, reference)
    if reference.split == "validation":
        scores = [scoring.validation.of_flow(columns) for columns in scores]
    by_weight = dict(zip(distinct, scores, strict=True))
    return {setting: by_weight[weight] for setting, weight in acting.items()}


def _has_sample_metric(trial: Trial, setting: Setting) -> bool:
    metrics = trial.config.evaluate.metric_names
    if trial.config.evaluate.has_metric(source="features"):
        return True
    needed = "kl_sampler" if setting.sampler == "ode" else "kl_sde"
    return needed in metrics or (trial.is_trained and "memorisation" in metrics)


def _knots(calibrated: SplineWeight) -> Columns:
    return {
        "calibrated_sigmas": calibrated.knots.exp().tolist(),
        "calibrated_weights": calibrated.values.tolist(),
    }


def _row(
    trial: Trial,
    scoring: Scoring,
    checkpoint: Checkpoint,
    key: tuple[int, Setting],
    columns: Columns,
) -> Row:
    replicate, setting = key
    low, high = setting.interval or (None, None)
    stopped = checkpoint.stopped_epochs
    return Row(
        trial=trial.id,
        label=trial.label,
        objective=trial.objective,
        axes=json.dumps(dict(trial.axes)),
        replicate=replicate,
        epoch=checkpoint.epoch,
        is_calibrated=setting.is_calibrated,
        guidance_weight=setting.guidance_weight,
        sampler=setting.sampler,
        num_steps=setting.num_steps,
        guided_stage=setting.guided_stage,
        interval_low=low,
        interval_high=high,
        sigma_edges=scoring.sets.sigma_edges,
        stopped_epoch=None if stopped is None else stopped[replicate],
        num_parameters=checkpoint.num_parameters,
        seconds_fit=checkpoint.seconds_fit,
        host=platform.node(),
        device=str(scoring.problem.device),
        **columns,
    )


def _clouds(
    trial: Trial, problem: Problem, epoch: int, drawn: Mapping[Setting, Tensor]
) -> list[Cloud]:
    """The first samples of the first replicate; of the base trial the data too."""
    clouds, of = [], (trial, problem, epoch)
    if trial.objective == "base":
        data = _real(problem, "held_out", trial.config.data.num_held_out)
        clouds.append(_cloud(of, "data", data))
    elif trial.is_trained:
        real = _real(problem, training_split(0), problem.num_real)
        clouds.append(_cloud(of, "real", real))
    source = "base" if trial.objective == "base" else "guided"
    for setting, samples in drawn.items():
        clouds.append(_cloud(of, source, samples, setting))
        if problem.shape is not None and trial.is_trained:
            clouds.append(_cloud(of, "nearest", _nearest_training(problem, samples), setting))
    return clouds


def _nearest_training(problem: Problem, shown: Tensor) -> Tensor:
    """Of each image that is shown the nearest training image of the first replicate, uint8."""
    training = problem.real_bytes(training_split(0), problem.num_real)
    return training[nearest_index(shown.to(training.device).float(), training.float())]


def _real(problem: Problem, split: str, count: int) -> Tensor:
    """Samples of the data to look at; images in bytes."""
    if problem.shape is None:
        return problem.real(split, count, CLOUD_POINTS)
    return problem.real_bytes(split, count)[:SHOWN]


def _cloud(
    of: tuple[Trial, Problem, int], source: str, points: Tensor, setting: Setting | None = None
) -> Cloud:
    trial, problem, epoch = of
    return Cloud(
        source=source,
        trial=trial.id,
        epoch=epoch,
        is_calibrated=setting is not None and setting.is_calibrated,
        guidance_weight=None if setting is None else setting.guidance_weight,
        sampler="" if setting is None else setting.sampler,
        points=points[:CLOUD_POINTS].tolist(),
        shape=None if problem.shape is None else list(problem.shape),
    )
