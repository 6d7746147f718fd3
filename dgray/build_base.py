"""The part of ``dgray.build`` about trained bases: what to train, how, and on what."""

from __future__ import annotations

from dataclasses import replace

import torch

from dgray.base_network import Architecture, default_network
from dgray.config.data import TrainedBase
from dgray.fit_base import BaseFit, BaseSchedule, fit_base
from dgray.fit_base_data import BaseData


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
) -> Architecture:
    """The network for samples of a shape, (d,) or (C, H, W)."""
    return Architecture(
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
