"""Estimate of the time and the disk space that a plan needs."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgray.config.bases import NetworkBase
from dgray.plan.cells import cells_of, typical_trial
from dgray.plan.plan import Plan, Trial, counts_of
from dgray.plan.shared_keys import generated_key
from dgray.plan.survey import sample_shape
from dgray.plan.work import base_work, discriminator_weights, evaluation_work, fit_work

# Fixed seconds.
START_SECONDS = 10.0  # imports, Ray
TRIAL_SECONDS = 3.0  # a worker process: imports, data
REPORT_SECONDS = 15.0  # figures in three formats, the page
CHECKPOINT_REPORT_SECONDS = 0.15  # event files, with a picture of every sample cloud

# Stored bytes.
ROW_BYTES = 2_000
PART_BYTES = 15_000  # one Parquet part, however few its rows
STATE_COPIES = 4  # weights, Adam's two moments, the EMA
FIGURES_BYTES = 10_000_000
FLOAT_BYTES = 4
SHOWN_IMAGES = 64  # of a setting


@dataclass(frozen=True, kw_only=True)
class SearchEstimate:
    """Needs of the search of one cell, if no trial of it is stopped early."""

    label: str
    trial: Trial  # in the middle of every domain
    num_trials: int | None  # None: as many as its time allows
    trial_seconds: float


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """Needs of a run of the plan."""

    trial_seconds: tuple[float, ...]  # in the order of plan.trials
    searches: tuple[SearchEstimate, ...]
    parallel_trials: int
    wall_seconds: float
    gpus: int  # that the wall time is meant with
    gpu_seconds: float  # of all GPUs together
    disk_bytes: int


def estimate(plan: Plan, *, cpus: int, gpus: int = 0) -> CostEstimate:
    """Estimate time and disk space of a run with this many CPUs and GPUs."""
    fixed = tuple(trial_seconds(trial) for trial in plan.trials)
    searches = tuple(_search_estimates(plan))
    parallel = parallel_trials(plan, searches, cpus=cpus, gpus=gpus)
    points = [search.trial for search in searches for _ in range(search.num_trials or 0)]
    seconds = (*fixed, *(trial_seconds(trial) for trial in points))
    shared = artifact_seconds(plan)
    around = START_SECONDS + shared / parallel + report_seconds(plan, points)
    per_trial = plan.trials[0].config.resources.gpus_per_trial
    return CostEstimate(
        trial_seconds=fixed,
        searches=searches,
        parallel_trials=parallel,
        wall_seconds=around + _trials_seconds(plan, fixed, seconds, parallel),
        gpus=math.ceil(per_trial * parallel),
        gpu_seconds=per_trial * (shared + sum(seconds)),
        disk_bytes=FIGURES_BYTES + sum(_trial_bytes(trial) for trial in (*plan.trials, *points)),
    )


def _search_estimates(plan: Plan) -> Iterator[SearchEstimate]:
    for cell in cells_of(plan.study):
        trial = typical_trial(plan.study, cell)
        yield SearchEstimate(
            label=cell.label,
            trial=trial,
            num_trials=cell.search.num_trials,
            trial_seconds=trial_seconds(trial),
        )


def _trials_seconds(
    plan: Plan, fixed: tuple[float, ...], seconds: tuple[float, ...], parallel: int
) -> float:
    """Return the seconds from the first trial to the end of the last, within time budgets."""
    whole = _makespan(seconds, parallel)
    search = plan.trials[0].config.search
    if search.method == "grid" or search.time_budget is None:
        return whole
    budget = _makespan(fixed, parallel) + search.time_budget
    return budget if search.num_trials is None else min(whole, budget)


def parallel_trials(
    plan: Plan, searches: Sequence[SearchEstimate], *, cpus: int, gpus: int = 0
) -> int:
    """Return the number of trials that run at a time, at least 1: a cluster can have more CPUs."""
    resources = plan.trials[0].config.resources
    number = sum([search.num_trials or math.inf for search in searches], float(len(plan.trials)))
    limits = [number, cpus // resources.cpus_per_trial]
    if resources.gpus_per_trial > 0:
        # Ray assigns whole GPUs, or fractions of one; the remainder of each is unused.
        limits.append(
            gpus * math.floor(1 / resources.gpus_per_trial)
            if resources.gpus_per_trial < 1
            else math.floor(gpus / resources.gpus_per_trial)
        )
    if resources.max_concurrent_trials is not None:
        limits.append(resources.max_concurrent_trials)
    return max(1, int(min(limits)))


def trial_seconds(trial: Trial) -> float:
    """Return the seconds of one trial on the CPUs that it requests."""
    evaluation = sum(evaluation_work(trial)) * len(trial.epochs) * trial.replicates
    fit = fit_work(trial) if trial.is_trained else 0.0
    return TRIAL_SECONDS + fit + evaluation


def checkpoint_seconds(trial: Trial) -> dict[int, tuple[float, float]]:
    """Return the seconds of each checkpoint: the training since the one before, its evaluation."""
    evaluation = sum(evaluation_work(trial)) * trial.replicates + TRIAL_SECONDS / len(trial.epochs)
    per_epoch = fit_work(trial) / trial.epochs[-1] if trial.is_trained else 0.0
    starts = (0, *trial.epochs)
    return {
        epoch: (per_epoch * (epoch - start), evaluation)
        for start, epoch in zip(starts, trial.epochs, strict=False)
    }


def artifact_seconds(plan: Plan) -> float:
    """Return the seconds before the trials: fitting bases and drawing their samples."""
    bases = {
        generated_key(trial.config): trial
        for trial in plan.trials
        if isinstance(trial.config.base, NetworkBase)
    }
    return sum(base_seconds(trial) for trial in bases.values())


def base_seconds(trial: Trial) -> float:
    """Return the seconds of fitting the base of a trial and drawing its samples."""
    return base_work(trial) if isinstance(trial.config.base, NetworkBase) else 0.0


def report_seconds(plan: Plan, points: Sequence[Trial] = ()) -> float:
    """Return the seconds of the report after the last trial; ``points``: trials of searches."""
    checkpoints = counts_of((*plan.trials, *points)).checkpoints
    return REPORT_SECONDS + CHECKPOINT_REPORT_SECONDS * checkpoints


def duration(seconds: float) -> str:
    """Return seconds as text: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _makespan(seconds: tuple[float, ...], parallel: int) -> float:
    """Return when the last trial ends if each starts in order on the first free slot."""
    ends = [0.0] * parallel
    for duration in seconds:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _trial_bytes(trial: Trial) -> int:
    config, checkpoints = trial.config, len(trial.epochs)
    rows = len(trial.settings) * trial.replicates
    shown = config.evaluate.num_samples
    if config.data.sample_kind == "images":
        shown = 2 * min(shown, SHOWN_IMAGES)  # each with its nearest training image
    clouds = len(trial.settings) * shown * math.prod(sample_shape(trial.config.data))
    state = STATE_COPIES * discriminator_weights(trial) * trial.replicates
    floats = (clouds + state) * FLOAT_BYTES
    return checkpoints * (PART_BYTES + rows * ROW_BYTES + floats)
