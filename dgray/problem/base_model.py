"""Builders of bases that are networks: trained ones, EDM's and those of diffusers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from dgray.base.fit import BaseFit, BaseSchedule, fit_base, load_base
from dgray.base.fit_data import BaseData
from dgray.base.fit_network import BaseArchitecture, default_network
from dgray.base.networks.diffusers_denoiser import load_diffusers
from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.image_denoiser import NetworkDenoiser
from dgray.base.networks.importing.sources import locate
from dgray.base.networks.importing.stored import StoredNetwork, build_denoiser, read_network
from dgray.config.base import DiffusersBase, EdmBase, TrainedBase
from dgray.config.study import StudyConfig
from dgray.data.images import Shape
from dgray.diffusion.denoiser import Denoiser
from dgray.files import safetensors_metadata
from dgray.plan.shared_keys import base_key

_NETWORK = "network"  # of the artifact's header


def build_base_fit(
    config: TrainedBase,
    data: BaseData,
    *,
    sigma_data: float,
    seed: int,
    num_classes: int = 0,
    device: torch.device | None = None,
    resume: bytes | None = None,
) -> BaseFit:
    """The training of a base, not begun; arguments as of ``fit_base``.

    Args:
        config: of the base.
        data: what it is fitted to; labels are used if ``config.conditional``.
        sigma_data: scale of the data.
        seed: of the study.
        num_classes: of the data; 0 without labels.
        device: where it is trained; None: the CPU.
        resume: a state to continue from.

    Raises:
        ValueError: a class-conditional base of data without labels.
    """
    if config.conditional and data.labels is None:
        raise ValueError(
            "a class-conditional base needs labels, but the data has none; set "
            "base.conditional: false"
        )
    if not config.conditional:
        data, num_classes = replace(data, labels=None), 0
    device = device or torch.device("cpu")
    return fit_base(
        data,
        build_architecture(config, data.shape, sigma_data=sigma_data, num_classes=num_classes),
        build_schedule(config),
        seed=seed,
        device=device,
        resume=resume,
    )


def build_architecture(
    config: TrainedBase, shape: tuple[int, ...], *, sigma_data: float, num_classes: int = 0
) -> BaseArchitecture:
    """The network for samples of a shape, (d,) or (C, H, W)."""
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
    """How it is trained."""
    return BaseSchedule(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        learning_rate_decay=config.learning_rate_decay,
        ema_decay=config.ema_decay,
    )


def import_edm(config: EdmBase, tell: Callable[[str], None]) -> bytes:
    """A stored network as an artifact: its weights, and in the header what it is.

    Raises:
        ValueError: the file is refused (see ``dgray.base.networks``).
        OSError: it cannot be fetched or read.
    """
    path = locate(config.network, cache=None, sha256=config.sha256, tell=tell)
    stored = read_network(path)
    state = {name: weight.contiguous() for name, weight in stored.state.items()}
    record = {**stored.architecture.to_json(), **stored.origin}
    return safetensors.torch.save(state, {_NETWORK: json.dumps(record, sort_keys=True)})


def edm_architecture(artifact: bytes) -> EdmArchitecture:
    """What the network is that ``import_edm`` stored."""
    return EdmArchitecture.from_json(json.loads(safetensors_metadata(artifact)[_NETWORK]))


def load_edm(artifact: bytes, device: torch.device) -> NetworkDenoiser:
    """The denoiser that ``import_edm`` stored, its weights fixed."""
    architecture = edm_architecture(artifact)
    return build_denoiser(StoredNetwork(architecture, safetensors.torch.load(artifact)), device)


def build_image_base(
    config: StudyConfig, artifacts: Mapping[str, bytes], shape: Shape, device: torch.device
) -> Denoiser:
    """The denoiser of images that a study guides.

    Raises:
        ValueError: it is of images of another shape than the data.
    """
    base: Denoiser
    if isinstance(config.base, DiffusersBase):
        base = load_diffusers(Path(config.base.path).expanduser(), device)
    elif isinstance(config.base, EdmBase):
        base = load_edm(artifacts[base_key(config)], device)
    else:
        base = load_base(artifacts[base_key(config)], device)
    own = getattr(base, "shape", shape)
    if tuple(own) != tuple(shape):
        raise ValueError(
            f"base and data must have images of one shape, but the base makes {tuple(own)} and "
            f"the data has {tuple(shape)}; choose another base, or resize the data"
        )
    return base
