"""Estimate of the time and the disk space that a plan needs.

Work is counted in floating-point operations of matrix products, plus an overhead for every small
tensor operation; both are turned into seconds by the constants below. One discriminator of width h
and depth L on d-dimensional data costs M = (d + 3) h + (L - 1) h^2 + h multiply-adds per point
(its input is x and three features of sigma).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dgray.config.bases import NetworkBase, TrainedBase
from dgray.config.parts import option_arguments
from dgray.config.training import ConvDiscriminator, MlpDiscriminator
from dgray.plan.cells import cells_of, typical_trial
from dgray.plan.plan import Plan, Setting, Trial, counts_of
from dgray.plan.shared_keys import generated_key
from dgray.plan.survey import sample_shape

# Speed of one CPU thread.
FLOPS = 16e9  # convolutions, and all else that no other constant is for
MLP_FLOPS = 80e9  # float32 matrix products of perceptrons, with their activations
BATCHED_FLOPS = 40e9  # products of all directions of a divergence at once
SECONDS_PER_OPERATION = 12e-6  # of any small tensor operation
SECONDS_PER_DRAW = 4e-5  # generators and samples of one epoch of one replicate
SECONDS_PER_PATH_POINT = 2e-6  # calibration and estimates, of a point at a noise level

# Of one GPU. Kim et al. 2023, Table 6: 50,000 images of EDM's CIFAR-10 network, 35 calls each, in
# about an hour on an A100; at 21 GFLOP a call that is 1e13 a second. Not measured with dgray.
GPU_FLOPS = 1e13

# Small tensor operations of one step or call.
CROSS_ENTROPY_OPERATIONS = 60
KL_OPERATIONS = 90  # differentiates a gradient
CALL_OPERATIONS = 60  # one guided denoiser call

# Floating-point operations per multiply-add.
CROSS_ENTROPY_FLOPS = 6  # forward 2, backward 4
KL_FLOPS = 12  # the gradient in x, and backward through it
GUIDED_CALL_FLOPS = 4  # forward and the gradient in x
LIKELIHOOD_FLOPS = 2  # forward mode, once for each of the d + 2 directions
PATH_CALLS = 4  # gradients and logits on the splits, in guided calls

MLP_VALUES = 64  # images of more values have a U-Net as base and estimated divergences
UNET_MACS = 400  # of the U-Net of dgray, per squared channel, block and pixel
CONV_MACS = 15  # of a convolutional discriminator, per squared channel, block and pixel
CONV_WEIGHTS = 250  # of one, per squared channel and block: 130 on a trunk, 380 at 64 x 64
EDM_MACS = 3.4e6  # of the networks of EDM, per value of an image (10.5 G at 32 x 32 x 3)
BACKWARD = 2  # a backward pass costs this many forward passes
BACKWARD_OPERATIONS = 15  # small tensor operations of one

SIGMA_FEATURES = 3
MIXTURE_FLOPS = 400  # one exact denoiser call, per point and dimension
LIKELIHOOD_CALLS = 200  # evaluations of the probability-flow ODE for one log-density
LIKELIHOOD_TOLERANCE = 1e-4  # tolerance of LIKELIHOOD_CALLS; the method has order 5

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
    evaluation = sum(_evaluation_work(trial)) * len(trial.epochs) * trial.replicates
    fit = _fit_work(trial) if trial.is_trained else 0.0
    return TRIAL_SECONDS + fit + evaluation


def checkpoint_seconds(trial: Trial) -> dict[int, tuple[float, float]]:
    """Return the seconds of each checkpoint: the training since the one before, its evaluation."""
    evaluation = sum(_evaluation_work(trial)) * trial.replicates + TRIAL_SECONDS / len(
        trial.epochs
    )
    per_epoch = _fit_work(trial) / trial.epochs[-1] if trial.is_trained else 0.0
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
    return _base_work(trial) if isinstance(trial.config.base, NetworkBase) else 0.0


def report_seconds(plan: Plan, points: Sequence[Trial] = ()) -> float:
    """Return the seconds of the report after the last trial; ``points``: trials of searches."""
    checkpoints = counts_of((*plan.trials, *points)).checkpoints
    return REPORT_SECONDS + CHECKPOINT_REPORT_SECONDS * checkpoints


def _base_work(trial: Trial) -> float:
    config, base = trial.config, trial.config.base
    assert isinstance(base, NetworkBase)  # selected by the caller
    one_call, calls = _base_flops(trial), 2 * base.generation_steps
    samples = base.num_generated * config.replicates
    samples += config.data.num_validation + config.data.num_held_out
    flops, operations = float(one_call) * calls * samples, float(CALL_OPERATIONS * calls)
    if isinstance(base, TrainedBase):
        flops += CROSS_ENTROPY_FLOPS * one_call / 2 * base.batch_size * base.steps
        operations += CROSS_ENTROPY_OPERATIONS * base.steps
    threads, gpus = config.resources.cpus_per_trial, config.resources.gpus_per_trial
    return _seconds(flops, operations, threads=threads, gpus=gpus)


def uses_unet(base: TrainedBase, shape: tuple[int, ...]) -> bool:
    """Return True if the network of a trained base is a U-Net for samples of this shape."""
    is_large = len(shape) == 3 and math.prod(shape) > MLP_VALUES
    return base.network == "unet" or (base.network is None and is_large)


def _macs(dimension: int, width: int, depth: int) -> int:
    """Return the multiply-adds of one point through an MLP with one output."""
    return (dimension + SIGMA_FEATURES) * width + (depth - 1) * width**2 + width


def _seconds(flops: float, operations: float, *, threads: int, gpus: float = 0) -> float:
    speed = GPU_FLOPS * gpus if gpus else FLOPS * threads
    return flops / speed + operations * SECONDS_PER_OPERATION


def _discriminator_macs(trial: Trial) -> float:
    """Return the multiply-adds of one point that would take its time at the speed FLOPS."""
    if not trial.is_trained:
        return 0
    network = trial.config.discriminator
    if isinstance(network, ConvDiscriminator):
        return _convolution_macs(CONV_MACS, network.width, network.depth, trial)
    return _perceptron_macs(trial) * FLOPS / MLP_FLOPS


def _perceptron_macs(trial: Trial) -> int:
    network = trial.config.discriminator
    if not isinstance(network, MlpDiscriminator):
        network = MlpDiscriminator()  # a guess at the size of a user's network
    return _macs(_dimension(trial), network.width, network.depth)


def _discriminator_weights(trial: Trial) -> int:
    network = trial.config.discriminator
    if trial.is_trained and isinstance(network, ConvDiscriminator):
        return CONV_WEIGHTS * network.width**2 * network.depth
    return _perceptron_macs(trial) if trial.is_trained else 0  # every weight is used once


def _convolution_macs(constant: int, width: int, depth: int, trial: Trial) -> int:
    _, *pixels = _shape(trial)
    return constant * width**2 * depth * math.prod(pixels)


def _shape(trial: Trial) -> tuple[int, ...]:
    return sample_shape(trial.config.data)


def _dimension(trial: Trial) -> int:
    return math.prod(_shape(trial))


def _base_flops(trial: Trial) -> int:
    """Return the operations of the unguided denoiser at one point."""
    base, dimension = trial.config.base, _dimension(trial)
    is_image = trial.config.data.sample_kind == "images"
    if isinstance(base, TrainedBase):
        if uses_unet(base, _shape(trial)):
            return 2 * _convolution_macs(UNET_MACS, base.width, base.depth, trial)
        return 2 * _macs(dimension, base.width, base.depth)
    return int(2 * EDM_MACS * dimension) if is_image else MIXTURE_FLOPS * dimension


def _fit_work(trial: Trial) -> float:
    """Return the seconds of training all replicates to the last checkpoint."""
    config, fit = trial.config, trial.config.fit
    batch = min(fit.batch_size, config.data.num_real)
    steps = math.ceil(config.data.num_real / batch) * trial.epochs[-1]
    points = batch * trial.replicates * steps
    macs = _discriminator_macs(trial)
    flops, operations = 0.0, 0.0
    objective = fit.objective.spec
    if objective.needs_generated:
        flops += CROSS_ENTROPY_FLOPS * macs * 2 * points
        operations += CROSS_ENTROPY_OPERATIONS * steps
    has_penalty = "gradient_penalty" in objective.options and fit.gradient_penalty > 0
    if objective.needs_gradient or has_penalty:
        flops += (KL_FLOPS * macs + _base_flops(trial)) * points
        operations += KL_OPERATIONS * steps
    drawing = SECONDS_PER_DRAW * trial.epochs[-1] * trial.replicates
    threads, gpus = config.resources.cpus_per_trial, config.resources.gpus_per_trial
    return drawing + _seconds(flops, operations, threads=threads, gpus=gpus)


def _evaluation_work(trial: Trial) -> Iterator[float]:
    """Yield the seconds of each metric, for one replicate at one checkpoint."""
    config, evaluate = trial.config, trial.config.evaluate
    threads, gpus = config.resources.cpus_per_trial, config.resources.gpus_per_trial
    dimension, base = _dimension(trial), _base_flops(trial)
    macs = _discriminator_macs(trial)
    call = GUIDED_CALL_FLOPS * macs + base
    has_flow = evaluate.has_metric(source="flow")
    fields = {(s.guidance_weight, s.interval) for s in trial.settings}
    evaluations = _likelihood_calls(trial)  # which all fields share
    calls = len(fields) * evaluations
    if has_flow and config.data.sample_kind == "points":
        flops = (LIKELIHOOD_FLOPS * macs + base) * (dimension + 2) * evaluate.num_points
        yield _seconds(flops * calls, CALL_OPERATIONS * evaluations, threads=threads, gpus=gpus)
    if has_flow and config.data.sample_kind == "images":
        is_exact = dimension <= MLP_VALUES
        directions = dimension if is_exact else evaluate.num_probes
        flops = (LIKELIHOOD_FLOPS * macs + base) * (1 + BACKWARD * directions)
        operations = CALL_OPERATIONS + BACKWARD_OPERATIONS * directions
        faster = FLOPS / BATCHED_FLOPS if is_exact else 1.0
        work = flops * evaluate.num_points * calls * faster, operations * evaluations
        yield _seconds(*work, threads=threads, gpus=gpus)
    sigmas = evaluate.num_bins * evaluate.least_sigmas_per_bin
    points = min(config.data.num_held_out, evaluate.num_noised or math.inf) * sigmas
    fitting = SECONDS_PER_PATH_POINT * points
    yield fitting + _seconds(PATH_CALLS * call * points, 0, threads=threads, gpus=gpus)
    calls = sum(_sampler_calls(trial, setting) for setting in trial.settings)
    samples = evaluate.num_samples * evaluate.sampling_seeds
    batches = {(s.sampler, s.num_steps, s.guided_stage): s for s in trial.settings}
    operations = CALL_OPERATIONS * sum(_sampler_calls(trial, s) for s in batches.values())
    yield _seconds(call * samples * calls, operations, threads=threads, gpus=gpus)


def _likelihood_calls(trial: Trial) -> float:
    """Return the evaluations of the ODE for one log-density at the tolerance of the study."""
    ratio: float = trial.config.evaluate.tolerance / LIKELIHOOD_TOLERANCE
    return LIKELIHOOD_CALLS * math.exp(-math.log(ratio) / 5)


def _sampler_calls(trial: Trial, setting: Setting) -> int:
    """Return the denoiser calls of one sample."""
    evaluate = trial.config.evaluate
    part = evaluate.sampler_named(setting.sampler)
    options = option_arguments(evaluate, part.spec.options) | part.arguments
    return part.spec.num_calls(setting.num_steps, options)


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
    clouds = len(trial.settings) * shown * _dimension(trial)
    state = STATE_COPIES * _discriminator_weights(trial) * trial.replicates
    floats = (clouds + state) * FLOAT_BYTES
    return checkpoints * (PART_BYTES + rows * ROW_BYTES + floats)
