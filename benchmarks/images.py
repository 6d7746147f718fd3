"""Measure guided sampling of images: against its bare model calls, and against DG.

    python -m benchmarks images

Base and trunk are a U-Net of EDM's form with random weights, the discriminator a small head on its
encoder. Sampling as in DG (Kim et al. 2023, arXiv 2211.17091) is written out here: Heun's method,
and the gradient of the logit of the whole batch by automatic differentiation; ``interval`` leaves
out the discriminator outside an interval of noise levels, as dgray does, ``mask`` multiplies it by
0.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from benchmarks.turns import Pair, cost_of, machine, measure_in_turns
from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.preconditioning import EDMPrecond, EncoderFeatures
from dgray.base.networks.unets.song import SongUNet
from dgray.correction.guidance import guided_denoiser
from dgray.correction.weight import ConstantWeight, IntervalWeight
from dgray.diffusion.denoiser import ChunkedDenoiser
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator import autograd_ensemble
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.fit import Task, TrainingSchedule, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import CrossEntropy, Objective, ObjectiveLoss, Outputs
from dgray.discriminator.trunk import ModuleTrunk
from dgray.problem.compute_process import prepare_process

SHAPE = (3, 16, 16)
COUNT = 8
SIGMAS = karras_sigmas(18, 0.02, 80.0)
INTERVALS = ((0.02, 80.0), (0.3, 80.0), (1.0, 10.0))
Way = Literal["mask", "interval"]
BLOCKS = (2, 8, 32, 128)  # rows of a gradient
TOLERANCE = 1e-3  # of samples, largest absolute difference: blocks of rows round differently
WAYS: tuple[Way, ...] = ("mask", "interval")


def networks() -> tuple[NetworkDenoiser, ConvNet]:
    """Return a base and a discriminator on its encoder, with random weights."""
    torch.manual_seed(0)
    channels, side = SHAPE[0], SHAPE[1]
    raw = SongUNet(
        side, channels, channels, model_channels=32, channel_mult=(1, 2), num_blocks=1, dropout=0
    )
    module = EDMPrecond(raw).eval().requires_grad_(False)
    trunk = ModuleTrunk.of(EncoderFeatures(module), SHAPE)
    shape = ConvShape(image=trunk.shape, width=32, depth=1)
    ensemble = initialise_conv(shape, 0.5, [named_generator(0, "initial", 0)], trunk=trunk)
    weights = [torch.randn_like(t) * 0.05 if not t.any() else t for t in ensemble.tensors]
    return NetworkDenoiser(module, SHAPE), ensemble.with_tensors(weights)


def start_noise(count: int = COUNT) -> Tensor:
    """Return the start of the samples, float64."""
    generator = named_generator(0, "start")
    return 80 * torch.randn(count, math.prod(SHAPE), generator=generator, dtype=torch.float64)


def sample(base: NetworkDenoiser, head: ConvNet, interval: tuple[float, float]) -> Tensor:
    """Draw samples by dgray."""
    weight = IntervalWeight(ConstantWeight(1.0), *interval)
    with torch.no_grad():
        guided = guided_denoiser(ChunkedDenoiser(base, 128), head.member(0), weight)
        return heun(guided, start_noise(), SIGMAS)


def sample_as_dg(
    base: NetworkDenoiser,
    head: ConvNet,
    interval: tuple[float, float],
    outside: Way,
) -> Tensor:
    """Draw the same samples as DG does."""
    member = head.member(0)

    def denoise(x: Tensor, level: float) -> Tensor:
        sigma = torch.full((len(x),), level, dtype=torch.float64)
        with torch.no_grad():
            denoised = base(x, sigma)
        acts = interval[0] <= level <= interval[1]
        if outside == "interval" and not acts:
            return denoised
        with torch.enable_grad():
            leaf = x.float().clone().detach().requires_grad_()
            logit = member.logit(leaf, sigma.float())
            (gradient,) = torch.autograd.grad(logit.sum(), leaf)
        return denoised + acts * level**2 * gradient.double()

    x = start_noise()
    for level, next_level in pairwise(SIGMAS.tolist()):
        slope = (x - denoise(x, level)) / level
        ahead = x + (next_level - level) * slope
        if next_level > 0:
            next_slope = (ahead - denoise(ahead, next_level)) / next_level
            ahead = x + (next_level - level) * (slope + next_slope) / 2
        x = ahead
    return x


def bare_calls(base: NetworkDenoiser, head: ConvNet, interval: tuple[float, float]) -> None:
    """Call both networks as often as guided sampling needs them, and do nothing else."""
    x, member = start_noise(), head.member(0)
    for level in levels():
        sigma = torch.full((len(x),), level, dtype=torch.float64)
        with torch.no_grad():
            base(x, sigma)
            if interval[0] <= level <= interval[1]:
                member.gradient(x, sigma)


def levels() -> list[float]:
    """Return the noise levels of the calls of Heun's method."""
    first, *others = SIGMAS[:-1].tolist()
    return [first, *(level for level in others for _ in range(2))]


def compare(dgray: Callable[[], Tensor], other: Callable[[], object], repeats: int) -> Pair:
    """Return the costs of two functions in turn, after one call of each."""
    mine, theirs = dgray(), other()
    if isinstance(theirs, Tensor):
        difference = float((mine - theirs).abs().max())
        assert difference <= TOLERANCE, f"the samples differ by {difference:g}"
    return measure_in_turns((partial(cost_of, dgray), partial(cost_of, other)), repeats)


def measure_sampling(repeats: int) -> None:
    """Print the table of guided sampling."""
    base, head = networks()
    print("| interval | calls | limit | bare calls | DG, mask | DG, interval |")
    print("|---|---:|---:|---:|---:|---:|")
    for interval in INTERVALS:
        calls = sum(interval[0] <= level <= interval[1] for level in levels())

        own = partial(sample, base, head, interval)
        ratios = [_inverse(compare(own, partial(bare_calls, base, head, interval), repeats))]
        for outside in WAYS:
            other = partial(sample_as_dg, base, head, interval, outside)
            ratios.append(compare(own, other, repeats).ratios(2))
        total = len(levels())
        print(
            f"| {interval[0]:g} to {interval[1]:g} | {calls} of {total} | {total / calls:.2f} | "
            + " | ".join(ratios)
            + " |",
            flush=True,
        )


def _inverse(pair: Pair) -> str:
    """Return the ratio dgray / other, where other is the cost of the model calls alone."""
    return Pair(pair.second, pair.first).ratios(2)


def measure_blocks(repeats: int) -> None:
    """Print the time of a gradient through the trunk by the rows of a block."""
    _, head = networks()
    member, count = head.member(0), max(BLOCKS)
    x, sigma = start_noise(count).float() / 80, torch.ones(count)
    assert head.trunk is not None
    chosen = autograd_ensemble.BLOCK_ELEMENTS // head.activation_size
    print(f"\nactivation of a row: {head.activation_size:,} numbers, so {chosen} rows a block\n")
    print("| rows of a block | gradient of 128 rows, CPU s | against all at once |")
    print("|---:|---:|---:|")

    def gradient(rows: int) -> Tensor:
        with torch.no_grad():
            parts = zip(x.split(rows), sigma.split(rows), strict=True)
            return torch.cat([member.gradient(*part) for part in parts])

    for rows in BLOCKS:
        pair = compare(partial(gradient, count), partial(gradient, rows), repeats)
        print(f"| {rows} | {pair.medians()[1]:.3f} | {pair.ratios(2)} |", flush=True)


@dataclass(frozen=True)
class ReadsResidual(Objective):
    """Cross-entropy that reads the residual of the base, which it does not use."""

    def __call__(self, outputs: Outputs, /) -> Tensor:
        """Return the loss of each sample."""
        assert outputs.batch.residual.ndim
        return CrossEntropy()(outputs)


def measure_residual(repeats: int) -> None:
    """Print what an epoch of cross-entropy costs with the residual of the base, and without."""
    base, _ = networks()
    samples = start_noise(64).float()[None] / 80
    losses: dict[Objective, float] = {}

    def train(objective: Objective) -> None:
        task = Task(
            real=samples,
            generated=samples.flip(1),
            base=base,
            loss=ObjectiveLoss(objective),
            draw_sigma=lambda generator, count: torch.rand(count, generator=generator) + 0.1,
            weigh=torch.ones_like,
            validation=None,
            seed=0,
        )
        shape = ConvShape(image=SHAPE, width=8, depth=1)
        ensemble = initialise_conv(shape, 0.5, [named_generator(0, "initial", 0)])
        schedule = TrainingSchedule(epochs=1, checkpoints=(1,), batch_size=32, learning_rate=1e-3)
        (checkpoint,) = fit(task, schedule, TrainingState.start(ensemble, replicates=[0]))
        losses[objective] = float(checkpoint.losses[0][1])

    objectives = (CrossEntropy(), ReadsResidual())
    for objective in objectives:
        train(objective)
    assert len(set(losses.values())) == 1, losses
    trainings = [partial(cost_of, partial(train, objective)) for objective in objectives]
    pair = measure_in_turns(trainings, repeats)
    print(f"\nepoch of cross-entropy, with the residual of the base / without: {pair.ratios(2)}")


def main() -> None:
    """Measure sampling, blocks and residual."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs per case")
    repeats = parser.parse_args().repeats
    prepare_process(1)
    print(f"{machine()}, torch {torch.__version__}; {repeats} pairs of runs, one thread\n")
    measure_sampling(repeats)
    measure_blocks(repeats)
    measure_residual(repeats)


if __name__ == "__main__":
    main()
