"""Check of the parts of a study that other packages provide, on two samples each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dgray.base.networks.importing.sources import local_path
from dgray.catalogue import (
    BASES,
    CORRECTIONS,
    DATA,
    DISCRIMINATORS,
    METRICS,
    OBJECTIVES,
    SAMPLERS,
    Registry,
)
from dgray.config.bases import BaseSection, DiffusersBase, EdmBase
from dgray.config.correction import CorrectionPart
from dgray.config.data import DataSection, ImageData
from dgray.config.model import MAX_COUNT
from dgray.config.parts import MetricPart, ObjectivePart, SamplerPart
from dgray.config.study import StudyConfig
from dgray.config.training import ConvDiscriminator, DiscriminatorSection
from dgray.correction.weight import ConstantWeight
from dgray.data.summary import DataSummary
from dgray.diffusion.class_mixture import ClassMixture
from dgray.diffusion.denoiser import with_labels
from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import karras_sigmas
from dgray.discriminator.discriminator import Trainable
from dgray.discriminator.mlp import MlpShape, initialise
from dgray.discriminator.objective import Batch, Noised, ObjectiveLoss, Outputs, denoising_residual
from dgray.discriminator.time_score import time_residual
from dgray.discriminator.trunk import load_trunk
from dgray.errors import PartError
from dgray.metrics.estimate import Estimate
from dgray.metrics.features.custom import load_custom
from dgray.plan.survey import survey
from dgray.problem.artifacts import Shared
from dgray.problem.base_model import build_base, import_edm
from dgray.problem.build import build_metric_functions, build_samplers
from dgray.problem.correction import as_correction, build_loss, build_trained
from dgray.problem.discriminator import build_modules
from dgray.problem.flops import PlannedInputs, planned_inputs
from dgray.problem.images import build_image_set, image_splits
from dgray.problem.inputs import findings_of
from dgray.problem.objective import build_objective
from dgray.problem.part_process import outside_modules, run_apart
from dgray.problem.points import build_base_law, build_law

_CHECK_ALL = "dgray.trial.check_parts:check_all"
COUNT = 2  # samples of a check
SIGMA = 1.0


def checked_apart(configs: Sequence[StudyConfig]) -> list[str]:
    """Return ``check_parts`` and ``check_networks``; code of other packages runs apart."""
    if any(map(outside_modules, configs)):
        (checked,) = run_apart(configs[0], _CHECK_ALL, {"configs": configs})
        return list(checked)
    return next(check_all(configs))


def check_all(configs: Sequence[StudyConfig]) -> Iterator[list[str]]:
    """Yield the names of all that was checked."""
    yield [*check_parts(configs), *check_networks(configs)]


def check_parts(configs: Iterable[StudyConfig]) -> list[str]:
    """Build every part of other packages once, and run it on two samples.

    Args:
        configs: configurations of a study's trials; a part that several share is checked once.

    Returns:
        The field and the import path of each part that was checked.

    Raises:
        PartError: if a part cannot be built, or returns a wrong type or shape, or values or
            gradients that are not finite.
    """
    checked: dict[str, str] = {}
    for config in configs:
        for field, registry, part, check in _parts(config):
            name = f"{field}: {part.spec.factory}"
            key = name + json.dumps(part.model_dump(mode="json"), sort_keys=True)
            if key in checked or (part.spec in registry.built_in and not _reads_files(part)):
                continue
            try:
                check(config, part)
            except Exception as error:  # of another package: any class is possible
                if isinstance(error, PartError) and error.field:
                    raise
                rule = str(error).removeprefix(f"{part.spec.factory}: ")
                raise PartError(f"{name}: {rule}", field) from error
            checked[key] = name
    return list(checked.values())


def check_networks(configs: Iterable[StudyConfig]) -> list[str]:
    """Build the feature extractors and trunks of users once, and run them on two samples.

    Args:
        configs: configurations of a study's trials.

    Returns:
        The field and the import path or file of each that was checked.

    Raises:
        PartError: if one cannot be built, or does not return what it must.
    """
    checks: dict[str, Callable[[], object]] = {}
    for config in configs:
        evaluate, network = config.evaluate, config.discriminator
        is_image = config.data.sample_kind == "images"
        if is_image and ":" in evaluate.features and evaluate.has_metric(source="features"):
            checks[f"evaluate.features: {evaluate.features}"] = partial(
                load_custom, evaluate.features, _image_shape(config), "cpu"
            )
        trunk = getattr(network, "trunk", "none")
        if isinstance(network, ConvDiscriminator) and trunk not in ("none", "base"):
            checks[f"discriminator.trunk: {trunk}"] = partial(
                load_trunk, trunk, _image_shape(config), torch.device("cpu")
            )
    for name, check in checks.items():
        try:
            check()
        except Exception as error:  # of another package: any class is possible
            raise PartError(f"{name}: {error}", name.partition(":")[0]) from error
    return list(checks)


def _reads_files(part: Any) -> bool:
    """Return True if a part of dgray reads images, or a network that is on this machine."""
    if isinstance(part, EdmBase):
        return local_path(part.network) is not None
    is_image = isinstance(part, ImageData)
    return isinstance(part, DiffusersBase) or (is_image and not getattr(part, "download", False))


def _parts(
    config: StudyConfig,
) -> Iterator[tuple[str, Registry[Any], Any, Callable[[StudyConfig, Any], None]]]:
    """Yield field, registry, content and check of each part of a study."""
    yield "data", DATA, config.data, _check_data
    yield "base", BASES, config.base, _check_base
    yield "discriminator", DISCRIMINATORS, config.discriminator, _check_discriminator
    yield "correction.kind", CORRECTIONS, config.correction.kind, _check_correction
    yield "fit.objective", OBJECTIVES, config.fit.objective, _check_objective
    for sampler in config.evaluate.sampler:
        yield "evaluate.sampler", SAMPLERS, sampler, _check_sampler
    for metric in config.evaluate.metrics:
        yield "evaluate.metrics", METRICS, metric, _check_metric


def _image_shape(config: StudyConfig) -> tuple[int, int, int]:
    channels, height, width = _shape(config)
    return channels, height, width


def _shape(config: StudyConfig) -> tuple[int, ...]:
    """Return the shape of a sample of the data, which is built if its shape is not known."""
    summary = survey(config.data)
    shape = config.data.shape if summary is None else summary.shape
    if shape is not None:
        return shape
    if isinstance(config.data, ImageData):
        return build_image_set(config.data).shape
    return (build_law(config).dimension,)


def _check_data(config: StudyConfig, part: DataSection) -> None:
    if isinstance(part, ImageData):
        images = build_image_set(part)
        if len(images) < COUNT:
            raise ValueError(f"there must be at least {COUNT} images, but got {len(images)}")
        _check_against(config, images.summary)
        image_splits(config, images)
        return
    law = build_law(config)  # checks it
    number = law.num_classes if isinstance(law, ClassMixture) else 0
    classes = dict.fromkeys(map(str, range(number)), MAX_COUNT) or None
    _check_against(config, DataSummary(part.spec.name, MAX_COUNT, (law.dimension,), classes))


def _check_against(config: StudyConfig, summary: DataSummary) -> None:
    """Compare a study with its data, as plans do where they are known before they are built."""
    for finding in findings_of(config, summary):
        if not finding.is_missing:
            raise PartError(f"{finding.field}: {finding.rule}", finding.field)


def _check_base(config: StudyConfig, part: BaseSection) -> None:
    shape = _shape(config)
    x, sigma = _noised(math.prod(shape)).x[0], torch.full((COUNT,), SIGMA, dtype=torch.float64)
    made = Shared({})
    if isinstance(part, EdmBase):
        made = Shared({"base": import_edm(part, log=lambda text: None)})
    summary, device = survey(config.data), torch.device("cpu")
    num_classes = None if summary is None else len(summary.classes or ())
    base = build_base_law(config) or build_base(
        config, made, shape, device, num_classes=num_classes
    )
    if getattr(base, "num_classes", 0):
        base = with_labels(base, torch.zeros(COUNT, dtype=torch.int64))
    _check_tensor("denoiser", base(x, sigma), tuple(x.shape))
    probes = torch.ones(1, *x.shape)
    denoised, divergence = base.with_divergence(x, sigma, probes)
    _check_tensor("denoiser with divergence", denoised, tuple(x.shape))
    _check_tensor("divergence", divergence, (COUNT,))


def _check_discriminator(config: StudyConfig, part: DiscriminatorSection) -> None:
    shape = _shape(config)
    ensemble = build_modules(part, shape, 1.0, _generators())
    _check_gradient(
        ensemble, lambda made, batch: Outputs(made, batch).real_logit, math.prod(shape)
    )


def _check_objective(config: StudyConfig, part: ObjectivePart) -> None:
    dimension = math.prod(_shape(config))
    ensemble = initialise(MlpShape(dimension=dimension, width=4, depth=1), 1.0, _generators())
    span = config.diffusion.sigma_min, config.diffusion.sigma_max
    _check_gradient(ensemble, ObjectiveLoss(build_objective(config.fit, span)), dimension)


def _check_correction(config: StudyConfig, part: CorrectionPart) -> None:
    shape = _shape(config)
    inputs = PlannedInputs(
        base=_standard_normal(math.prod(shape)),
        shape=_image_shape(config) if len(shape) == 3 else None,
        dimension=math.prod(shape),
        sigma_data=1.0,
        span=(config.diffusion.sigma_min, config.diffusion.sigma_max),
        num_classes=0,
        device=torch.device("cpu"),
    )
    if part.spec.needs_parametric_base:
        inputs = planned_inputs(config)
    ensemble, base = build_trained(config, inputs, [0]), inputs.base
    if part.spec.is_trained:
        _check_gradient(ensemble, build_loss(config), inputs.dimension)
    correction = as_correction(config, ensemble.member(0))
    noised = _noised(inputs.dimension)
    x, sigma = noised.x[0], noised.sigma[0].double()
    for weight in (0.0, 1.0):
        denoised = correction.denoiser(base, ConstantWeight(weight))(x, sigma)
        _check_tensor(f"denoiser at weight {weight:g}", denoised, tuple(x.shape))
        if weight == 0 and not torch.equal(denoised, base(x, sigma)):
            raise ValueError("at weight 0 a correction must return the values of the base")


def _check_sampler(config: StudyConfig, part: SamplerPart) -> None:
    sampler, num_steps = build_samplers(config)[part.name], 3
    dimension = math.prod(_shape(config))
    noise = torch.randn(
        1 + num_steps, COUNT, dimension, generator=_generators()[0], dtype=torch.float64
    )
    steps = noise[1:] if sampler.is_stochastic else noise[:0]
    diffusion = config.diffusion
    sigmas = karras_sigmas(num_steps, diffusion.sigma_min, diffusion.sigma_max, diffusion.rho)
    samples = sampler.function(
        _standard_normal(dimension),
        diffusion.sigma_max * noise[0],
        sigmas,
        steps,
        **sampler.options,
    )
    _check_tensor("samples", samples, (COUNT, dimension))


def _check_metric(config: StudyConfig, part: MetricPart) -> None:
    (metric,) = [m for m in build_metric_functions(config) if m.spec.name == part.name]
    dimension = math.prod(_shape(config))
    count = max(COUNT, metric.spec.min_samples)
    shape = (2, count, dimension)
    generated, real = torch.randn(shape, generator=_generators()[0], dtype=torch.float64)
    estimate = metric(generated, real)
    if not isinstance(estimate, Estimate):
        raise TypeError(
            f"a metric must return a dgray.metrics.estimate.Estimate, but got "
            f"{type(estimate).__name__}"
        )
    if not math.isfinite(estimate.value):
        raise ValueError(f"the value of a metric must be finite, but got {estimate.value}")


def _check_gradient(
    ensemble: Trainable, loss: Callable[[Any, Batch], Tensor], dimension: int
) -> None:
    """Check a loss of an ensemble, and its gradient by the ensemble's tensors."""
    tensors = [tensor.clone().requires_grad_() for tensor in ensemble.tensors]
    real = _noised(dimension, torch.float32)
    base = _standard_normal(dimension)
    batch = Batch(
        real,
        lambda: denoising_residual(base, real),
        real,
        lambda: time_residual(base, real),
    )
    values = loss(ensemble.with_tensors(tensors), batch)
    _check_tensor("values", values.detach(), (1, COUNT))
    if not values.requires_grad:
        raise ValueError("the values must depend on the trained tensors")
    for gradient in torch.autograd.grad(values.sum(), tensors, allow_unused=True):
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            raise ValueError("the gradient by the trained tensors must be finite")


def _check_tensor(name: str, value: object, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        actual = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must have shape {shape}, but got {actual}")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, but got {value}")


def _noised(dimension: int, dtype: torch.dtype = torch.float64) -> Noised:
    noise = torch.randn(1, COUNT, dimension, generator=_generators()[0], dtype=torch.float64)
    sigma = torch.full((1, COUNT), SIGMA, dtype=dtype)
    return Noised.of(torch.zeros_like(noise, dtype=dtype), noise.to(dtype), sigma)


def _generators() -> list[torch.Generator]:
    return [named_generator(0, "check")]


def _standard_normal(dimension: int) -> GaussianMixture:
    zeros = torch.zeros(1, dimension, dtype=torch.float64)
    return GaussianMixture(zeros, zeros + 1, torch.ones(1, dtype=torch.float64))
