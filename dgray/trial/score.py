"""Rows and sample clouds of an ensemble of corrections at a checkpoint."""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgray.config.parts import BASE
from dgray.correction.correction import Correction, DiscriminatorCorrection, SamplerCorrection
from dgray.correction.linear import denoising_error, scaled_change
from dgray.discriminator.objective import Batch, Objective, Outputs
from dgray.plan.plan import Setting, Trial
from dgray.problem.artifacts import Shared
from dgray.problem.images import ImageProblem
from dgray.problem.points import NUM_SHOWN, PointProblem
from dgray.problem.problem import Problem, training_split
from dgray.problem.settings import applies_to
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from dgray.trial.noised_splits import EvaluationSet, build_evaluation_set
from dgray.trial.sample_cost import sample_costs, selection_costs
from dgray.trial.sampling import (
    Calibrated,
    Columns,
    DrawRequest,
    Interval,
    SampleScoring,
    ScoredSamples,
    acting_weight,
)
from dgray.trial.score_correction import (
    LikelihoodReference,
    score_classifier,
    score_flow,
    score_losses,
)
from dgray.trial.score_images import build_image_scoring
from dgray.trial.score_path import as_linear, score_paths
from dgray.trial.score_points import PointScoring
from dgray.trial.score_ratio import RATIO, score_ratio
from dgray.trial.score_selection import score_selected_flow
from dgray.trial.shards import RunShards


@dataclass(frozen=True)
class Scoring:
    """Inputs for scoring the checkpoints of a trial.

    Attributes:
        problem: data and base.
        sets: noised splits.
        samples: drawing and scoring of samples.
        likelihoods: points of the splits on which likelihoods are computed.
    """

    problem: Problem
    sets: EvaluationSet
    samples: SampleScoring
    likelihoods: Sequence[LikelihoodReference]

    @staticmethod
    def build(
        trial: Trial, problem: Problem, shared: Shared, run_shards: RunShards | None = None
    ) -> Scoring:
        """Compute it once per trial; ``run_shards`` draws images, None: in this process."""
        samples: SampleScoring
        if isinstance(problem, ImageProblem):
            samples = build_image_scoring(trial.config, problem, shared, run_shards)
        else:
            assert isinstance(problem, PointProblem)
            samples = PointScoring.build(problem, trial.settings)
        likelihoods = LikelihoodReference.read_all(problem, shared)
        return Scoring(problem, build_evaluation_set(problem), samples, likelihoods)


@dataclass(frozen=True)
class Checkpoint:
    """Ensemble at one epoch, and facts of its training.

    Attributes:
        epoch: passes over the real samples.
        members: one correction per replicate.
        objective: loss that is reported of a discriminator.
        training: noised training samples of each replicate; None for controls.
        stopped_epochs: see ``FitCheckpoint``.
        num_parameters: parameters of one member.
        train_flops: operations of the training of one member so far.
        seconds_fit: training time since the last checkpoint.
        losses: loss curve since the last checkpoint.
        state: state to resume the training from.
    """

    epoch: int
    members: Sequence[Correction]
    objective: Objective
    training: Sequence[Batch | None]
    stopped_epochs: tuple[int | None, ...] | None = None
    num_parameters: int | None = None
    train_flops: int | None = None
    seconds_fit: float = 0.0
    losses: tuple[LossPoint, ...] = ()
    state: bytes | None = None


@torch.no_grad()
def evaluate_checkpoint(
    trial: Trial, scoring: Scoring, checkpoint: Checkpoint
) -> CheckpointResult:
    """Score every replicate at every setting, and keep samples of the first replicate."""
    started = time.monotonic()
    every: list[dict[Setting, Columns]] = []
    clouds: list[Cloud] = []
    for replicate in range(len(checkpoint.members)):
        columns, samples = _evaluate_replicate(trial, scoring, checkpoint, replicate)
        every.append(columns)
        if replicate == 0:
            clouds = _clouds(trial, scoring.problem, checkpoint.epoch, samples)
    # After the samples, so that a sampler that fails does so while it draws those of the study.
    costs: dict[Setting, Columns] = {}
    first = checkpoint.members[0]
    if not isinstance(first, SamplerCorrection):  # whose costs differ between replicates
        costs = sample_costs(scoring.problem, first, trial.settings)
    rows = [
        _row(trial, scoring, checkpoint, (replicate, s), columns[s] | costs.get(s, {}))
        for replicate, columns in enumerate(every)
        for s in trial.settings
    ]
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    seconds = time.monotonic() - started
    return CheckpointResult(
        trial=trial.id,
        epoch=checkpoint.epoch,
        rows=tuple(replace(r, seconds_evaluate=seconds, finished_at=finished) for r in rows),
        clouds=tuple(clouds),
        losses=checkpoint.losses,
        state=checkpoint.state,
        columns=trial.config.evaluate.added_columns,
    )


def _evaluate_replicate(
    trial: Trial, scoring: Scoring, checkpoint: Checkpoint, replicate: int
) -> tuple[dict[Setting, Columns], dict[Setting, ScoredSamples]]:
    """Return the columns of every setting of one replicate, and its scored samples."""
    correction, training = checkpoint.members[replicate], checkpoint.training[replicate]
    of_member, change = _member_columns(
        scoring, checkpoint, replicate, {setting.interval for setting in trial.settings}
    )
    paths, calibrated = score_paths(correction, scoring.sets, trial.settings, change)
    columns = {setting: of_member | path for setting, path in paths.items()}
    if isinstance(correction, SamplerCorrection):
        costs = selection_costs(scoring.problem, correction, trial.settings, calibrated)
        columns = {setting: columns[setting] | costs[setting] for setting in columns}
    for reference in scoring.likelihoods:
        for setting, flow in _flows(trial, scoring, correction, calibrated, reference).items():
            columns[setting] |= flow
    request = DrawRequest(
        correction=correction,
        calibrated=calibrated,
        settings=[s for s in trial.settings if replicate == 0 or _has_metric(trial, scoring, s)],
        seeds=scoring.problem.evaluation.seeds,
        replicate=None if training is None else replicate,
    )
    samples = scoring.samples.score(request)
    for setting, scored in samples.items():
        columns[setting] |= scored.columns
    return columns, samples


def _member_columns(
    scoring: Scoring, checkpoint: Checkpoint, replicate: int, intervals: Collection[Interval]
) -> tuple[Columns, Tensor]:
    """Return the columns that no weight changes, and sigma times the change of the score.

    The change is 0 outside of the guidance intervals where no column reads it.

    The loss is the objective of a discriminator, otherwise the denoising error at weight 1.
    """
    correction, training = checkpoint.members[replicate], checkpoint.training[replicate]
    sets, objective = scoring.sets, checkpoint.objective
    if isinstance(correction, DiscriminatorCorrection):
        held_out = Outputs(correction.discriminator, sets.held_out)
        trained = None
        if training is not None:
            trained = objective(Outputs(correction.discriminator, training))
        losses = score_losses(objective(held_out), trained, sets.span)
        if RATIO not in scoring.problem.evaluation.names:
            change = held_out.scaled_gradient_within(intervals)
            return losses | score_classifier(held_out, sets), change
        change = held_out.scaled_gradient
        ratio = score_ratio(correction.discriminator, sets, change)
        return losses | score_classifier(held_out, sets) | ratio, change
    linear = as_linear(correction, scoring.problem.base)
    change = scaled_change(linear, sets.held_out)
    trained = None
    if training is not None:
        trained = denoising_error(scaled_change(linear, training), training)
    return score_losses(denoising_error(change, sets.held_out), trained, sets.span), change


def _flows(
    trial: Trial,
    scoring: Scoring,
    correction: Correction,
    calibrated: Calibrated,
    reference: LikelihoodReference,
) -> dict[Setting, Columns]:
    """Score the flow of each setting; settings with the same acting weight share one integral."""
    evaluation = scoring.problem.evaluation
    samplers = evaluation.samplers
    flows = [setting for setting in trial.settings if samplers[setting.sampler].is_flow]
    if not flows:
        return {}
    if isinstance(correction, SamplerCorrection):
        columns = score_selected_flow(correction, scoring.problem, flows, reference, calibrated)
    else:
        acting = {setting: acting_weight(setting, calibrated) for setting in flows}
        distinct = list(dict.fromkeys(acting.values()))
        scores = score_flow(correction, distinct, reference)
        by_weight = dict(zip(distinct, scores, strict=True))
        columns = {setting: by_weight[weight] for setting, weight in acting.items()}
    if reference.split == "held_out":
        return columns
    names = [name for metric in evaluation.validated for name in (metric, f"{metric}_se")]
    return {s: {f"validation_{n}": c[n] for n in names if n in c} for s, c in columns.items()}


def _has_metric(trial: Trial, scoring: Scoring, setting: Setting) -> bool:
    """Return whether a requested metric is computed from the samples of a setting."""
    evaluation = scoring.problem.evaluation
    sampler = evaluation.samplers[setting.sampler]
    return any(
        applies_to(metric, sampler) and (trial.is_trained or not metric.needs_training)
        for metric in (*evaluation.of_source("samples"), *evaluation.of_source("features"))
    )


def _row(
    trial: Trial,
    scoring: Scoring,
    checkpoint: Checkpoint,
    key: tuple[int, Setting],
    columns: Columns,
) -> Row:
    replicate, setting = key
    stopped = checkpoint.stopped_epochs
    return Row.from_columns(
        {
            "trial": trial.id,
            "label": trial.label,
            "objective": trial.objective,
            "correction": trial.correction,
            "axes": json.dumps(dict(trial.axes)),
            "replicate": replicate,
            "epoch": checkpoint.epoch,
            **setting.columns(),
            "sigma_edges": scoring.sets.sigma_edges,
            "stopped_epoch": None if stopped is None else stopped[replicate],
            "num_parameters": checkpoint.num_parameters,
            "train_flops": checkpoint.train_flops,
            "seconds_fit": checkpoint.seconds_fit,
            "host": platform.node(),
            "device": str(scoring.problem.device),
            **columns,
        }
    )


def _clouds(
    trial: Trial, problem: Problem, epoch: int, samples: Mapping[Setting, ScoredSamples]
) -> list[Cloud]:
    """Return the first samples of the first replicate, and data: held-out or training samples."""

    def cloud(source: str, points: Tensor, setting: Setting | None = None) -> Cloud:
        return Cloud(
            source=source,
            trial=trial.id,
            epoch=epoch,
            is_calibrated=setting is not None and setting.is_calibrated,
            guidance_weight=None if setting is None else setting.guidance_weight,
            sampler="" if setting is None else setting.sampler,
            points=points[:NUM_SHOWN].tolist(),
            shape=problem.shape and list(problem.shape),
        )

    clouds = []
    is_base = trial.objective == BASE
    if is_base:
        clouds.append(cloud("data", problem.shown("held_out")))
    elif trial.is_trained:
        clouds.append(cloud("real", problem.shown(training_split(0))))
    for setting, scored in samples.items():
        clouds.append(cloud("base" if is_base else "guided", scored.shown, setting))
        if scored.nearest is not None:
            clouds.append(cloud("nearest", scored.nearest, setting))
    return clouds
