"""Training of a base, a denoiser fitted to samples of the data, as a generator of its progress.

All randomness of a step comes from a generator named (seed, step) and is drawn on the CPU, so a
resumed training draws the same numbers as an uninterrupted one, on every device. Printing, files
and Ray belong to the caller.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor

from dgray.base.fit_data import BaseData
from dgray.base.fit_network import BaseArchitecture, as_denoiser, build_network, denoise
from dgray.base.fit_state import BaseState, read_metadata, to_safetensors
from dgray.base.networks.mlp_denoiser import denoising_loss
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.noise import global_seed, named_generator
from dgray.diffusion.sigmas import log_normal

EDM_SIGMA_DATA = 0.5  # scale of the data for which EDM chose its distribution of noise levels
LABEL_DROPOUT = 0.1  # trains the unconditional case, Ho & Salimans 2022 (arXiv 2207.12598)


@dataclass(frozen=True)
class BaseSchedule:
    """Length of a training and its optimisation settings.

    Attributes:
        steps: number of steps of the optimiser.
        batch_size: samples per step, drawn with replacement; limited to the number of samples.
        learning_rate: maximum learning rate of Adam.
        warmup: number of first steps over which the learning rate rises linearly.
        learning_rate_decay: ``cosine``: it falls to 0 at the last step.
        ema_decay: decay of the weight average per step, after its ramp-up; 0: no average.
        report_every: steps between reports.
        checkpoint_every: steps between resumable states.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 0
    learning_rate_decay: Literal["constant", "cosine"] = "constant"
    ema_decay: float = 0.0
    report_every: int = 100
    checkpoint_every: int = 250

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rate = self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1))
        if self.learning_rate_decay == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return rate

    def is_due(self, step: int) -> bool:
        """Return whether a report is due after this number of steps."""
        periods = (self.report_every, self.checkpoint_every, self.steps)
        return any(step % period == 0 for period in periods)


@dataclass(frozen=True)
class BaseProgress:
    """Progress of a training.

    Attributes:
        step: number of finished steps.
        loss: mean of EDM's weighted loss since the last report; 1 for a network that is zero.
        seconds: wall time since the last report.
        state: state from which ``fit_base`` can resume, at a checkpoint; else None.
    """

    step: int
    loss: float
    seconds: float
    state: bytes | None


BaseFit = Generator[BaseProgress, None, bytes]


def fit_base(
    data: BaseData,
    architecture: BaseArchitecture,
    schedule: BaseSchedule,
    *,
    seed: int,
    device: torch.device,
    resume: bytes | None = None,
) -> BaseFit:
    """Train a base: yield its progress, return the artifact that ``load_base`` reads.

    Args:
        data: samples of the data.
        architecture: architecture of the network; with classes if and only if the data has labels.
        schedule: length and optimisation settings.
        seed: seed of the study.
        device: device of the training.
        resume: last ``BaseProgress.state`` of the same training.

    Raises:
        ValueError: data and architecture do not match, or ``resume`` is of another training.
        FloatingPointError: the loss is no longer finite.
    """
    _check(data, architecture)
    definition = _definition(data, architecture, schedule, seed)
    with global_seed(named_generator(seed, "base", "initial").initial_seed(), device):
        network = build_network(architecture)
    state = BaseState.start(network.to(device).train())
    if resume is not None:
        state.load_bytes(resume, definition)
    started, losses = time.monotonic(), list[Tensor]()
    while state.step < schedule.steps:
        generator = named_generator(seed, "base", state.step)
        loss = _loss(state, data, architecture, schedule.batch_size, generator)
        state.advance(loss, schedule.rate(state.step), schedule.ema_decay)
        losses.append(loss.detach())
        if schedule.is_due(state.step):
            mean = _finite_mean(losses, state.step)
            is_checkpoint = state.step % schedule.checkpoint_every == 0
            content = state.to_bytes(definition) if is_checkpoint else None
            yield BaseProgress(state.step, mean, time.monotonic() - started, content)
            started, losses = time.monotonic(), []
    return to_safetensors(state.averaged(), architecture.to_json())


def load_base(artifact: bytes, device: torch.device) -> Denoiser:
    """Load the denoiser that ``fit_base`` returned; it is ``Conditional`` if it has classes.

    Raises:
        ValueError: the bytes are not such an artifact.
    """
    architecture = BaseArchitecture.from_json(read_metadata(artifact))
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten below
        network = build_network(architecture)
    network.load_state_dict(safetensors.torch.load(artifact))
    return as_denoiser(network.to(device), architecture)


def _loss(
    state: BaseState,
    data: BaseData,
    architecture: BaseArchitecture,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of one batch, drawn by the generator."""
    device = next(state.network.parameters()).device
    count = len(data.samples)
    size = min(batch_size, count)
    chosen = torch.randint(count, (size,), generator=generator)
    is_mirrored = torch.rand(size, generator=generator) < 0.5 if data.flip else None
    clean = data.clean(chosen, is_mirrored)
    scale = architecture.sigma_data / EDM_SIGMA_DATA
    sigma = log_normal(torch.randn(size, generator=generator)) * scale
    noisy = clean + sigma[:, None] * torch.randn(clean.shape, generator=generator)
    labels = None
    if data.labels is not None:
        is_dropped = torch.rand(size, generator=generator) < LABEL_DROPOUT
        labels = torch.where(is_dropped, -1, data.labels[chosen]).to(device)
    clean, noisy, sigma = clean.to(device), noisy.to(device), sigma.to(device)
    with global_seed(generator.initial_seed(), device):
        denoised = denoise(state.network, architecture, noisy, sigma, labels)
    return denoising_loss(denoised, clean, sigma, architecture.sigma_data)


def _check(data: BaseData, architecture: BaseArchitecture) -> None:
    if data.shape != architecture.shape:
        raise ValueError(
            f"the network is for samples of shape {architecture.shape}, but the data has "
            f"{data.shape}"
        )
    classes = architecture.num_classes
    if (data.labels is None) != (classes == 0):
        raise ValueError(
            f"a base with {classes} classes must match its data, but the data comes "
            f"{'without' if data.labels is None else 'with'} labels; "
            "set base.conditional to match the data"
        )
    if data.labels is not None and not 0 <= data.labels.min() <= data.labels.max() < classes:
        raise ValueError(
            f"labels must be from 0 to {classes - 1}, but they range from "
            f"{int(data.labels.min())} to {int(data.labels.max())}; correct the labels"
        )


def _definition(
    data: BaseData, architecture: BaseArchitecture, schedule: BaseSchedule, seed: int
) -> str:
    """Return everything that determines the trained weights, as text."""
    defining = asdict(schedule)
    del defining["report_every"], defining["checkpoint_every"]
    parts = {"data": [data.sha256, data.flip], "network": asdict(architecture), "seed": seed}
    return json.dumps({**parts, "schedule": defining}, sort_keys=True)


def _finite_mean(losses: list[Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the loss of the base must be finite, but by step {step} it is {mean}; lower "
            "base.learning_rate"
        )
    return mean
