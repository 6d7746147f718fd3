"""Seconds of the parts of a trial: fitting its base, training, and evaluation.

Work is counted in floating-point operations of matrix products, plus an overhead for every small
tensor operation; both are turned into seconds by the constants below. One discriminator of width h
and depth L on d-dimensional data costs M = (d + 3) h + (L - 1) h^2 + h multiply-adds per point
(its input is x and three features of sigma).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dgray.catalogue import MLP_MAX_VALUES, NETWORKS, default_network
from dgray.config.bases import NetworkBase, TrainedBase
from dgray.config.parts import BASE, option_arguments
from dgray.config.training import ConvDiscriminator, MlpDiscriminator
from dgray.plan.plan import Setting, Trial
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
CALL_FLOPS = 2  # of another denoiser
GUIDED_CALL_FLOPS = 4  # forward and the gradient in x
LIKELIHOOD_FLOPS = 2  # forward mode, once for each of the d + 2 directions
GRID_POINTS = 1e5  # of the observable path KL, at all noise levels
PATH_CALLS = 4  # gradients and logits on the splits, in guided calls

UNET_MACS = 215  # of the U-Net of dgray, per squared channel, block and pixel
CONV_MACS = 15  # of a convolutional discriminator, per squared channel, block and pixel
CONV_WEIGHTS = 250  # of one, per squared channel and block: 130 on a trunk, 380 at 64 x 64
EDM_MACS = 3.4e6  # of the networks of EDM, per value of an image (10.5 G at 32 x 32 x 3)
BACKWARD = 2  # a backward pass costs this many forward passes
BACKWARD_OPERATIONS = 15  # small tensor operations of one

SIGMA_FEATURES = 3
MIXTURE_FLOPS = 400  # one exact denoiser call, per point and dimension
ROUNDS_PER_PROPOSAL = 4  # of a selection, until its last sample is accepted
LIKELIHOOD_CALLS = 200  # evaluations of the probability-flow ODE for one log-density
LIKELIHOOD_TOLERANCE = 1e-4  # tolerance of LIKELIHOOD_CALLS; the method has order 5


def base_work(trial: Trial) -> float:
    """Return the seconds of fitting the base and drawing its samples."""
    config, base = trial.config, trial.config.base
    assert isinstance(base, NetworkBase)  # selected by the caller
    one_call, calls = _base_flops(trial), 2 * base.generation_steps
    samples = base.num_generated * config.replicates
    samples += config.data.num_validation + config.data.num_held_out
    flops, operations = float(one_call) * calls * samples, float(CALL_OPERATIONS * calls)
    if isinstance(base, TrainedBase):
        flops += CROSS_ENTROPY_FLOPS * one_call / 2 * base.batch_size * base.steps
        operations += CROSS_ENTROPY_OPERATIONS * base.steps
    return _seconds(flops, operations, trial)


def uses_unet(base: TrainedBase, shape: tuple[int, ...]) -> bool:
    """Return True if the network of a trained base is a U-Net for samples of this shape."""
    return NETWORKS[base.network or default_network(shape)].is_convolutional


def _macs(dimension: int, width: int, depth: int) -> int:
    """Return the multiply-adds of one point through an MLP with one output."""
    return (dimension + SIGMA_FEATURES) * width + (depth - 1) * width**2 + width


def _seconds(flops: float, operations: float, trial: Trial) -> float:
    resources = trial.config.resources
    speed = FLOPS * resources.cpus_per_trial
    if resources.gpus_per_trial:
        speed = GPU_FLOPS * resources.gpus_per_trial
    return flops / speed + operations * SECONDS_PER_OPERATION


def _discriminator_macs(trial: Trial) -> float:
    """Return the multiply-adds of one point that would take its time at the speed FLOPS."""
    if not trial.is_trained:
        return 0
    network = trial.config.discriminator
    if isinstance(network, ConvDiscriminator):
        return _convolution_macs(CONV_MACS, network.width, network.depth, trial)
    return _perceptron_macs(trial) * FLOPS / MLP_FLOPS


def _call_flops(trial: Trial) -> float:
    """Return the operations of a corrected denoiser at one point."""
    is_network = trial.is_trained and trial.config.correction.spec.needs_parametric_base
    of_model = CALL_FLOPS if is_network else GUIDED_CALL_FLOPS
    return of_model * _model_macs(trial) + _base_flops(trial)


def _model_macs(trial: Trial) -> float:
    """Return those of the network of a correction: its own, or a copy of the base's."""
    if trial.is_trained and trial.config.correction.spec.needs_parametric_base:
        return _base_flops(trial) / 2
    return _discriminator_macs(trial)


def _perceptron_macs(trial: Trial) -> int:
    network = trial.config.discriminator
    if not isinstance(network, MlpDiscriminator):
        network = MlpDiscriminator()  # an assumed size of a user's network
    return _macs(_dimension(trial), network.width, network.depth)


def discriminator_weights(trial: Trial) -> int:
    """Return the number of trained weights of one replicate."""
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


def fit_work(trial: Trial) -> float:
    """Return the seconds of training all replicates to the last checkpoint."""
    config, fit = trial.config, trial.config.fit
    batch = min(fit.batch_size, config.data.num_real)
    steps = math.ceil(config.data.num_real / batch) * trial.epochs[-1]
    points = batch * trial.replicates * steps
    flops, operations = _step_work(trial)
    flops, operations = flops * points, operations * steps
    drawing = SECONDS_PER_DRAW * trial.epochs[-1] * trial.replicates
    return drawing + _seconds(flops, operations, trial)


def _step_work(trial: Trial) -> tuple[float, float]:
    """Return the operations of a training step: of each real sample, and small tensor ones."""
    correction, macs = trial.config.correction.spec, _model_macs(trial)
    if not correction.needs_discriminator:
        batches = 2 if correction.needs_generated else 1
        return CROSS_ENTROPY_FLOPS * macs * batches + _base_flops(trial), CROSS_ENTROPY_OPERATIONS
    fit, objective = trial.config.fit, trial.config.fit.objective.spec
    flops, operations = 0.0, 0.0
    if objective.needs_generated:
        flops += CROSS_ENTROPY_FLOPS * macs * 2
        operations += CROSS_ENTROPY_OPERATIONS
    has_penalty = "gradient_penalty" in objective.options and fit.gradient_penalty > 0
    if objective.needs_gradient or has_penalty:
        flops += KL_FLOPS * macs + _base_flops(trial)
        operations += KL_OPERATIONS
    return flops, operations


def evaluation_work(trial: Trial) -> Iterator[float]:
    """Yield the seconds of each metric, for one replicate at one checkpoint."""
    config, evaluate = trial.config, trial.config.evaluate
    dimension, base = _dimension(trial), _base_flops(trial)
    macs, is_selection = _model_macs(trial), _is_selection(trial)
    call = _call_flops(trial)
    evaluations = _likelihood_calls(trial)  # which all fields share
    # The likelihood of a selected distribution follows from that of the base.
    fields = {(s.guidance_weight, s.interval) for s in trial.settings}
    calls = (1 if is_selection else len(fields)) * evaluations
    if evaluate.has_metric(source="flow") and config.data.sample_kind == "points":
        flops = (LIKELIHOOD_FLOPS * macs + base) * (dimension + 2) * evaluate.num_points
        yield _seconds(flops * calls, CALL_OPERATIONS * evaluations, trial)
    if evaluate.has_metric(source="flow") and config.data.sample_kind == "images":
        is_exact = dimension <= MLP_MAX_VALUES  # else estimated
        directions = dimension if is_exact else evaluate.num_probes
        flops = (LIKELIHOOD_FLOPS * macs + base) * (1 + BACKWARD * directions)
        operations = CALL_OPERATIONS + BACKWARD_OPERATIONS * directions
        faster = FLOPS / BATCHED_FLOPS if is_exact else 1.0
        work = flops * evaluate.num_points * calls * faster, operations * evaluations
        yield _seconds(*work, trial)
    sigmas = evaluate.num_bins * evaluate.least_sigmas_per_bin
    points = min(config.data.num_held_out, evaluate.num_noised or math.inf) * sigmas
    fitting = SECONDS_PER_PATH_POINT * points
    yield fitting + _seconds(PATH_CALLS * call * points, 0, trial)
    if evaluate.has_metric(needs_grid=True) and not is_selection:
        yield _seconds(call * GRID_POINTS, 0, trial)
    yield _selection_work(trial) if is_selection else _sampling_work(trial, call)


def _sampling_work(trial: Trial, call: float) -> float:
    """Return the seconds of samples at all settings, which share calls for their weights."""
    calls = sum(_sampler_calls(trial, setting) for setting in trial.settings)
    batches = {(s.sampler, s.num_steps, s.guided_stage): s for s in trial.settings}
    operations = CALL_OPERATIONS * sum(_sampler_calls(trial, s) for s in batches.values())
    return _seconds(call * _num_samples(trial) * calls, operations, trial)


def _selection_work(trial: Trial) -> float:
    """Return the seconds of selections, with the share of proposals that a trial draws once."""
    rounds = ROUNDS_PER_PROPOSAL * _num_proposals(trial)
    samplers = {(s.sampler, s.num_steps): s for s in trial.settings}.values()
    calls = rounds * sum(_sampler_calls(trial, s) for s in samplers)
    flops, operations = _base_flops(trial) * _num_samples(trial) * calls, CALL_OPERATIONS * calls
    shares = trial.replicates * len(trial.epochs)
    logits = CALL_OPERATIONS * rounds * len(trial.settings)
    of_base = 3 * sum(_sampler_calls(trial, s) for s in trial.settings)  # splits, and the flow
    base = trial.config.base
    law = _base_flops(trial) * base.num_generated * of_base
    return _seconds(flops / shares + law, operations / shares + logits, trial)


def _is_selection(trial: Trial) -> bool:
    return trial.correction != BASE and trial.config.correction.spec.is_sampler


def _num_proposals(trial: Trial) -> float:
    correction = trial.config.correction
    option = correction.spec.proposals
    return float(correction.arguments[option]) if option else 1.0


def _num_samples(trial: Trial) -> int:
    return trial.config.evaluate.num_samples * trial.config.evaluate.sampling_seeds


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
