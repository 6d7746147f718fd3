"""Measure base, training and guided sampling on a GPU, and compare their numbers with the CPU.

    python -m benchmarks.gpu    # a random network of the size of EDM's CIFAR-10 model
    python -m benchmarks.gpu --device cpu --channels 16 --batches 4 --dimension 64   # anywhere

Prints seconds a step, samples per second, peak memory, and the largest difference to the same
computation on the CPU in float32, relative to the norm of the result. Training and sampling run in
``torch.cuda.set_sync_debug_mode("error")``: a wait for the device is an error.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from dgray.base.networks.acceleration import accelerate
from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.preconditioning import EDMPrecond, EncoderFeatures
from dgray.base.networks.unets.song import SongUNet
from dgray.correction.guidance import guided_denoiser
from dgray.correction.weight import ConstantWeight, IntervalWeight
from dgray.diffusion.denoiser import ChunkedDenoiser, Denoiser
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sampler import heun
from dgray.diffusion.sigmas import karras_sigmas, log_uniform
from dgray.discriminator import fit
from dgray.discriminator.conv import ConvNet, initialise_conv
from dgray.discriminator.conv_network import ConvShape
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import CrossEntropy, Kl, Objective, ObjectiveLoss
from dgray.discriminator.trunk import ModuleTrunk
from dgray.metrics.frechet import frechet_distance

SHAPE = (3, 32, 32)
COMPARED = 4  # images that the CPU computes too
SIGMAS = karras_sigmas(18, 0.002, 80.0)
FEATURES = 2048
VARIANTS = {
    "float32": (False, False, "float32"),
    "channels_last": (False, True, "float32"),
    "compile": (True, False, "float32"),
    "bfloat16": (False, False, "bfloat16"),
    "bfloat16, channels_last": (False, True, "bfloat16"),
    "bfloat16, channels_last, compile": (True, True, "bfloat16"),
}


def network(channels: int) -> EDMPrecond:
    """Return a network of the form of EDM's CIFAR-10 model; 128 channels are its size."""
    torch.manual_seed(0)
    raw = SongUNet(32, 3, 3, model_channels=channels, channel_mult=(2, 2, 2), dropout=0)
    with torch.no_grad():
        for weight in raw.parameters():  # the last layers start near 0
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return EDMPrecond(raw).eval().requires_grad_(False)


def noisy(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return noisy images, float64 (count, d), and their noise levels."""
    generator = named_generator(0, "noisy")
    sigma = log_uniform(torch.rand(count, generator=generator, dtype=torch.float64), 0.02, 80.0)
    x = torch.randn(count, math.prod(SHAPE), generator=generator, dtype=torch.float64)
    return (x * (0.25 + sigma**2).sqrt()[:, None]).to(device), sigma.to(device)


def seconds(function: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Return the median seconds of a call, after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        _wait(device)
        started = time.perf_counter()
        function()
        _wait(device)
        times.append(time.perf_counter() - started)
    return sorted(times[2:])[repeats // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def without_waits(device: torch.device) -> Iterator[None]:
    """Make a wait for the device an error."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def memory(device: torch.device) -> str:
    """Return the peak memory since the last call, and reset it."""
    if device.type != "cuda":
        return "-"
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return f"{peak:.2f} GiB"


def difference(value: Tensor, expected: Tensor) -> float:
    """Return the relative difference of a tensor and its value on the CPU."""
    return float((value.cpu() - expected).norm() / expected.norm())


def measure_base(module: EDMPrecond, device: torch.device, batches: list[int]) -> None:
    """Print samples per second of the base by batch size and variant."""
    x, sigma = noisy(COMPARED, torch.device("cpu"))
    with torch.no_grad():
        expected = NetworkDenoiser(module, SHAPE)(x, sigma)
    print("\n| base | images a call | samples / s | memory | difference to CPU |")
    print("|---|---:|---:|---:|---:|")
    for name, (is_compiled, is_channels_last, precision) in VARIANTS.items():
        own = NetworkDenoiser(copy.deepcopy(module).to(device), SHAPE)
        base = accelerate(
            own,
            is_compiled=is_compiled,
            is_channels_last=is_channels_last,
            precision="bfloat16" if precision == "bfloat16" else "float32",
        )
        for batch in batches:
            many = noisy(batch, device)
            with torch.no_grad():
                taken = seconds(lambda base=base, many=many: base(*many), device)  # type: ignore[misc]
                error = difference(base(x.to(device), sigma.to(device)), expected)
            print(f"| {name} | {batch} | {batch / taken:.0f} | {memory(device)} | {error:.0e} |")


def discriminator(module: EDMPrecond, replicates: int) -> ConvNet:
    """Return heads of the size of Kim et al.'s on the encoder of the base."""
    trunk = ModuleTrunk.of(EncoderFeatures(module), SHAPE)
    shape = ConvShape(image=trunk.shape, width=128, depth=2, attention=True)
    device = next(module.parameters()).device
    generators = [named_generator(0, "initial", r) for r in range(replicates)]
    heads = initialise_conv(shape, 0.5, generators, trunk=trunk)
    generator = named_generator(0, "head")
    tensors = [
        t if t.any() or t.ndim < 2 else 0.05 * torch.randn(t.shape, generator=generator)
        for t in heads.tensors
    ]
    return heads.with_tensors([t.to(device) for t in tensors])


def train(module: EDMPrecond, objective: Objective, size: tuple[int, int, int]) -> Tensor:
    """Train for an epoch; return the losses of all steps. ``size``: replicates, images, batch."""
    replicates, count, batch = size
    device = next(module.parameters()).device
    generator = named_generator(0, "pixels")
    shape = (replicates, count, math.prod(SHAPE))
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(device)
    task = fit.Task(
        real=pixels,
        generated=pixels.flip(1),
        base=ChunkedDenoiser(NetworkDenoiser(module, SHAPE), 256),
        loss=ObjectiveLoss(objective),
        draw_sigma=lambda g, n: log_uniform(torch.rand(n, generator=g), 0.02, 80.0),
        weigh=torch.ones_like,
        validation=None,
        seed=0,
    )
    state = TrainingState.start(discriminator(module, replicates), replicates=range(replicates))
    schedule = fit.TrainingSchedule(
        epochs=2, checkpoints=(2,), batch_size=batch, learning_rate=3e-4
    )
    with without_waits(device):
        losses = fit._run_epoch(task, schedule, state, 1, None)
    return torch.stack(losses)


def measure_training(module: EDMPrecond, device: torch.device, batch: int) -> None:
    """Print seconds of a step by objective."""
    own = copy.deepcopy(module).to(device)
    print("\n| training, batch | replicates | ms a step | memory | difference of losses to CPU |")
    print("|---|---:|---:|---:|---:|")
    for name, objective in (("cross_entropy", CrossEntropy()), ("kl", Kl())):
        small = (1, 2 * COMPARED, COMPARED)
        error = difference(train(own, objective, small), train(module, objective, small))
        for replicates in (1, 4):
            steps = 4
            size = (replicates, steps * batch, batch)
            taken = seconds(lambda o=objective, s=size: train(own, o, s), device, 3) / steps  # type: ignore[misc]
            cells = f"{replicates} | {1000 * taken:.1f} | {memory(device)} | {error:.0e}"
            print(f"| {name}, {batch} | {cells} |")


def sample(module: EDMPrecond, count: int, batch: int, interval: tuple[float, float]) -> Tensor:
    """Draw guided samples."""
    device = next(module.parameters()).device
    start, _ = noisy(count, device)
    weight = IntervalWeight(ConstantWeight(1.0), *interval)
    base: Denoiser = ChunkedDenoiser(NetworkDenoiser(module, SHAPE), batch)
    guided = guided_denoiser(base, discriminator(module, 1).member(0), weight)
    with torch.no_grad(), without_waits(device):
        return heun(guided, 80 * start / start.std(), SIGMAS)


def measure_sampling(module: EDMPrecond, device: torch.device, batch: int) -> None:
    """Print guided samples per second."""
    own = copy.deepcopy(module).to(device)
    print("\n| guided, interval | samples / s | memory | difference to CPU |")
    print("|---|---:|---:|---:|")
    for interval in ((0.002, 80.0), (0.3, 80.0), (80.1, 81.0)):
        pair = [sample(m, COMPARED, batch, interval) for m in (own, module)]
        taken = seconds(lambda i=interval: sample(own, batch, batch, i), device, 3)  # type: ignore[misc]
        cells = f"{batch / taken:.1f} | {memory(device)} | {difference(*pair):.0e}"
        print(f"| {interval[0]:g} to {interval[1]:g} | {cells} |", flush=True)


def measure_frechet(device: torch.device, dimension: int) -> None:
    """Print the seconds of a Fréchet distance on the CPU and, in float64, on the device."""
    rng = np.random.default_rng(0)
    draws = [rng.standard_normal((2 * dimension, dimension)) * s for s in (1.0, 1.2)]
    moments = [(d.mean(0), np.cov(d, rowvar=False)) for d in draws]

    def on_device() -> Tensor:
        (m1, s1), (m2, s2) = [[torch.from_numpy(a).to(device) for a in pair] for pair in moments]
        values, vectors = torch.linalg.eigh(s1)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        overlap = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
        distance: Tensor = ((m1 - m2) ** 2).sum() + s1.trace() + s2.trace() - 2 * overlap
        return distance

    expected = frechet_distance(*moments[0], *moments[1])
    on_cpu = seconds(lambda: frechet_distance(*moments[0], *moments[1]), device, 1)
    taken, error = seconds(on_device, device, 3), abs(float(on_device()) / expected - 1)
    print(
        f"\nFréchet distance, {dimension} dimensions: {on_cpu:.2f} s on one CPU thread, ", end=""
    )
    print(f"{taken:.2f} s in float64 on {device}; relative difference {error:.0e}")


def main() -> None:
    """Measure everything on one device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--channels", type=int, default=128, help="128: EDM's CIFAR-10 model")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--dimension", type=int, default=FEATURES, help="of features")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; choose --device cpu to run the script without one")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    module = network(options.channels)
    count = sum(p.numel() for p in module.parameters()) / 1e6
    print(f"{name}, torch {torch.__version__}; network of {count:.1f} million parameters")
    measure_base(module, device, options.batches)
    measure_training(module, device, options.batches[0])
    measure_sampling(module, device, options.batches[-1])
    measure_frechet(device, options.dimension)


if __name__ == "__main__":
    main()
