"""Builders of bases that are networks: trained ones, EDM's and those of diffusers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch

from dgray.base.fit import BaseFit, BaseSchedule, fit_base
from dgray.base.fit_data import BaseData
from dgray.base.fit_network import BaseArchitecture
from dgray.base.networks.acceleration import accelerate
from dgray.base.networks.diffusers_denoiser import DiffusersDenoiser, load_diffusers
from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.facts import NetworkFacts
from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.importing.sources import locate
from dgray.base.networks.importing.stored import StoredNetwork, build_denoiser, read_network
from dgray.catalogue import BASES, default_network
from dgray.config.bases import EdmBase, NetworkBase, TrainedBase
from dgray.config.parts import section_arguments
from dgray.config.study import StudyConfig
from dgray.diffusion.denoiser import (
    NOT_DIFFERENTIATED,
    Denoiser,
    is_differentiated,
    with_labels,
)
from dgray.diffusion.noise import named_generator
from dgray.errors import NetworkError, PartError
from dgray.files import safetensors_metadata
from dgray.problem.artifacts import Shared
from dgray.problem.returned import check_returned

_NETWORK = "network"  # key in the artifact's header


@dataclass(frozen=True)
class TrainingData:
    """Samples that a base is trained on, their scale, and the number of their classes."""

    samples: BaseData
    sigma_data: float
    num_classes: int = 0


def build_base_fit(
    config: TrainedBase,
    data: TrainingData,
    *,
    seed: int,
    device: torch.device | None = None,
    resume: bytes | None = None,
) -> BaseFit:
    """Return the training of a base, not yet started.

    Args:
        config: section ``base`` of the study file.
        data: training samples; their labels are used if ``config.conditional``.
        seed: seed of the study.
        device: device of the training; None: the CPU.
        resume: state to continue from.

    Raises:
        ValueError: if the base is class-conditional and the data has no labels.
    """
    samples, num_classes = data.samples, data.num_classes
    if config.conditional and samples.labels is None:
        raise ValueError(
            "a class-conditional base needs labels, but the data has none; set "
            "base.conditional: false"
        )
    if not config.conditional:
        samples, num_classes = replace(samples, labels=None), 0
    architecture = base_architecture(config, samples.shape, data.sigma_data, num_classes)
    device = device or torch.device("cpu")
    schedule = build_schedule(config)
    return fit_base(samples, architecture, schedule, seed=seed, device=device, resume=resume)


def base_architecture(
    config: TrainedBase, shape: tuple[int, ...], sigma_data: float, num_classes: int
) -> BaseArchitecture:
    """Return the architecture of a base for samples of a shape, (d,) or (C, H, W).

    ``num_classes``: 0 for an unconditional base.
    """
    return BaseArchitecture(
        network=config.network or default_network(shape),
        shape=shape,
        width=config.width,
        depth=config.depth,
        sigma_data=sigma_data,
        num_classes=num_classes,
        dropout=config.dropout,
        attention=config.attention,
    )


def build_schedule(config: TrainedBase) -> BaseSchedule:
    """Return the training schedule of a base."""
    return BaseSchedule(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        learning_rate_decay=config.learning_rate_decay,
        ema_decay=config.ema_decay,
    )


def import_edm(config: EdmBase, log: Callable[[str], None]) -> bytes:
    """Return a stored network as an artifact: its weights, with its architecture in the header.

    Raises:
        ValueError: if the file is refused (see ``dgray.base.networks``).
        OSError: if it cannot be fetched or read.
    """
    path = locate(config.network, cache=None, sha256=config.sha256, log=log)
    stored = read_network(path)
    state = {name: weight.contiguous() for name, weight in stored.state.items()}
    record = {**stored.architecture.to_json(), **stored.origin}
    return safetensors.torch.save(state, {_NETWORK: json.dumps(record, sort_keys=True)})


def load_edm(artifact: bytes, device: torch.device) -> NetworkDenoiser:
    """Return the denoiser that ``import_edm`` stored, its weights fixed."""
    architecture = EdmArchitecture.from_json(json.loads(safetensors_metadata(artifact)[_NETWORK]))
    return build_denoiser(StoredNetwork(architecture, safetensors.torch.load(artifact)), device)


def build_diffusers(
    shape: tuple[int, ...], device: torch.device, *, path: str
) -> DiffusersDenoiser:
    """Return the denoiser of a local folder of diffusers; its shape is that of the model."""
    return load_diffusers(Path(path).expanduser(), device)


def build_base(
    config: StudyConfig,
    shared: Shared,
    shape: tuple[int, ...],
    device: torch.device,
    *,
    num_classes: int | None = None,
) -> Denoiser:
    """Return the denoiser to be guided, if it is a network.

    Args:
        config: the study.
        shared: artifacts with the network's weights.
        shape: shape of a sample of the data, (d,) or (C, H, W).
        device: device of the network.
        num_classes: number of classes of the data, 0 without labels; None: unknown.

    Raises:
        NetworkError: if the base generates samples of another shape, has other classes, or was
            not trained for the noise levels of the study.
    """
    spec = config.base.spec
    base: Denoiser
    if spec.weights is not None:
        base = spec.load()(shared["base"], device)
    else:
        base = spec.load()(shape, device, **section_arguments(config.base, NetworkBase))
    facts = getattr(base, "facts", None)
    if isinstance(facts, NetworkFacts):
        conflicts = facts.conflicts(shape, num_classes, config.diffusion.sigma_max)
        if conflicts:
            raise NetworkError("; ".join(f"{field}: {rule}" for field, rule in conflicts))
    if spec not in BASES.built_in:
        needs_derivative = config.evaluate.has_metric(source="flow")
        _check_denoiser(base, math.prod(shape), device, needs_derivative=needs_derivative)
    return accelerate(
        base,
        is_compiled=config.resources.compile,
        is_channels_last=config.resources.channels_last,
        precision=getattr(config.base, "precision", "float32"),
    )


@torch.no_grad()
def _check_denoiser(
    base: Denoiser, dimension: int, device: torch.device, *, needs_derivative: bool
) -> None:
    """Check a user-defined base on two samples.

    Raises:
        PartError: if it does not return finite floating-point numbers in the shape of x, or its
            derivative is wrong where it is needed.
    """
    if not isinstance(base, Denoiser):
        raise PartError(
            f"a base must be a denoiser, but its factory returned {base!r}; it needs the method "
            "with_divergence: return dgray.diffusion.denoiser.AutogradDenoiser(function)"
        )
    generator = named_generator(0, "check")
    x = torch.randn(2, dimension, generator=generator, dtype=torch.float64).to(device)
    sigma = torch.ones(2, dtype=torch.float64, device=device)
    base = with_labels(base, torch.zeros(2, dtype=torch.int64, device=device))
    check_returned("a base", base(x, sigma), tuple(x.shape))
    if needs_derivative and not is_differentiated(base, x, sigma):
        raise PartError(NOT_DIFFERENTIATED)
