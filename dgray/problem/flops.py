"""Floating-point operations of a training and of denoiser calls, counted by torch.

Each is counted once, on a few rows, and multiplied: the operations of a step are proportional to
its rows, and those of an ensemble to its members. ``torch.utils.flop_counter`` counts matrix
products, convolutions and attention, two operations per multiply-add, forward and backward; it
counts no elementwise operations, so an exact mixture costs next to nothing.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import flop_counter

from dgray.base.fit_network import as_denoiser, build_network
from dgray.config.bases import EdmBase, TrainedBase
from dgray.config.study import StudyConfig
from dgray.correction.correction import Inputs
from dgray.data.images import Shape
from dgray.diffusion.denoiser import Denoiser
from dgray.diffusion.noise import named_generator
from dgray.discriminator.objective import Batch, Noised, denoising_residual
from dgray.discriminator.time_score import time_residual
from dgray.errors import CorrectionError
from dgray.plan.survey import sample_shape, survey
from dgray.problem.artifacts import Shared
from dgray.problem.base_model import base_architecture, build_base, import_edm
from dgray.problem.correction import build_loss, build_trained
from dgray.problem.points import build_base_law

ROWS = 2  # samples that are counted


def counted(function: Callable[[], object]) -> int:
    """Return the floating-point operations of a call."""
    if "torch._dynamo" not in sys.modules:
        _exclude_from_compiling()
    with flop_counter.FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def _exclude_from_compiling() -> None:
    """Mark the counter's function as excluded from compiling, as nothing is compiled here.

    Otherwise its first call imports torch._dynamo to do so: 1.4 s of CPU in every worker.
    """
    mode = getattr(flop_counter, "_FlopCounterMode", None)  # absent in other versions of torch
    if mode is not None:
        dispatch = inspect.unwrap(mode.__torch_dispatch__)
        vars(dispatch)["__dynamo_disable"] = dispatch


def training_flops(config: StudyConfig, inputs: Inputs) -> float:
    """Return the operations of one training step per real sample of one replicate.

    They include the calls of the base and the samples of the base in the batch.
    """
    ensemble, loss = build_trained(config, inputs, [0]), build_loss(config)
    tensors = [tensor.detach().clone().requires_grad_() for tensor in ensemble.tensors]
    ensemble = ensemble.with_tensors(tensors)
    real, exact = _noised(inputs, torch.float32), _noised(inputs, torch.float64)
    batch = Batch(
        real,
        lambda: denoising_residual(inputs.base, exact).float(),
        _noised(inputs, torch.float32) if config.needs_generated else None,
        lambda: time_residual(inputs.base, exact).float(),
    )
    return counted(lambda: loss(ensemble, batch).sum().backward()) / ROWS


def call_flops(model: Callable[[Tensor, Tensor], Tensor], inputs: Inputs) -> float:
    """Return the operations of a call of x and sigma per sample, in the precision of sampling."""
    noised = _noised(inputs, torch.float64)
    with torch.no_grad():
        return counted(lambda: model(noised.x[0], noised.sigma[0])) / ROWS


def _noised(inputs: Inputs, dtype: torch.dtype) -> Noised:
    shape, device = (1, ROWS, inputs.dimension), inputs.device
    noise = torch.randn(shape, generator=named_generator(0, "flops")).to(device, dtype)
    sigma = torch.full(shape[:2], inputs.sigma_data, device=device, dtype=dtype)
    labels = None
    if inputs.num_classes:
        labels = torch.zeros(shape[:2], dtype=torch.int64, device=device)
    return Noised.of(torch.zeros_like(noise), noise, sigma, labels)


@dataclass(frozen=True, kw_only=True)
class PlannedInputs:
    """Inputs of a correction as a study describes them, before anything is computed."""

    base: Denoiser
    shape: Shape | None
    dimension: int
    sigma_data: float
    span: tuple[float, float]
    num_classes: int
    device: torch.device


def epoch_flops(config: StudyConfig) -> float:
    """Return the operations of a training epoch of one replicate, without artifacts.

    Raises:
        CorrectionError: if the base is not known before it is built.
    """
    return training_flops(config, planned_inputs(config)) * config.data.num_real


def planned_inputs(config: StudyConfig) -> PlannedInputs:
    """Return inputs with an untrained base.

    Raises:
        CorrectionError: if the base is not known before it is built.
    """
    shape, device = sample_shape(config.data), torch.device("cpu")
    summary = survey(config.data)
    num_classes = len(summary.classes or ()) if summary is not None else 0
    is_conditional = any(
        getattr(part, "conditional", False) for part in (config.base, config.discriminator)
    )
    base: Denoiser | None = build_base_law(config)
    if base is None and isinstance(config.base, TrainedBase):
        classes_read = num_classes if config.base.conditional else 0
        architecture = base_architecture(config.base, shape, 1.0, classes_read)
        base = as_denoiser(build_network(architecture), architecture)
    elif base is None and isinstance(config.base, EdmBase):
        shared = Shared({"base": import_edm(config.base, log=lambda text: None)})
        base = build_base(config, shared, shape, device)
    if base is None:
        raise CorrectionError(
            "a budget needs a base whose size is known before it is built, but base.kind is "
            f"{config.base.kind}; set fit.epochs instead"
        )
    return PlannedInputs(
        base=base,
        shape=(shape[0], shape[1], shape[2]) if len(shape) == 3 else None,
        dimension=math.prod(shape),
        sigma_data=1.0,
        span=(config.diffusion.sigma_min, config.diffusion.sigma_max),
        num_classes=num_classes if is_conditional else 0,
        device=device,
    )
