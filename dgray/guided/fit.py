"""Training of a discriminator on the user's own samples and denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from dgray.catalogue import DISCRIMINATORS
from dgray.config.parts import section_arguments
from dgray.config.reading.diagnostics import dotted
from dgray.config.reading.explain import explain, merge
from dgray.config.reading.plain import plain_fields
from dgray.config.training import Discriminator as DiscriminatorModel
from dgray.config.training import DiscriminatorSection, Fit
from dgray.data.images import to_unit
from dgray.diffusion.denoiser import Denoiser, with_labels
from dgray.diffusion.noise import philox_noise
from dgray.diffusion.sampler import heun, sampler_sigmas
from dgray.discriminator.discriminator import Ensemble
from dgray.discriminator.fit import Task, fit
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.module_ensemble import build_module_ensemble
from dgray.discriminator.objective import Objective, ObjectiveLoss
from dgray.errors import GuidedModelError, StudyError, one_line
from dgray.guided.arguments import (
    Labels,
    TensorLike,
    check_scaled,
    checked_labels,
    checked_number,
    checked_pair,
    checked_seed,
    tensor_of,
)
from dgray.guided.description import TrainedPart, named_tensors
from dgray.guided.discriminator import SampleDiscriminator
from dgray.guided.sampling import NUM_STEPS, RHO
from dgray.guided.space import SampleSpace, SpaceWithBase
from dgray.guided.user_denoiser import BATCH_SIZE, wrap_denoiser
from dgray.problem.build import (
    build_noise_law,
    build_training_schedule,
    build_weighting,
)
from dgray.problem.discriminator import build_ensemble, initial_generators
from dgray.problem.images import SIGMA_DATA
from dgray.problem.objective import build_objective

Factory = Callable[..., torch.nn.Module]


def fit_discriminator(
    real: TensorLike,
    denoiser: Callable[..., Any],
    *,
    sigmas: tuple[float, float] = (0.002, 80.0),
    objective: str | Mapping[str, Any] | Objective = "kl",
    discriminator: Mapping[str, Any] | Factory | None = None,
    generated: TensorLike | None = None,
    labels: Labels | None = None,
    sigma_data: float | None = None,
    seed: int = 0,
    **fields: Any,
) -> SampleDiscriminator:
    """Fit a discriminator to samples of the data and a denoiser to be corrected.

    Args:
        real: samples of the data, points (n, d) or images (n, C, H, W): bytes, or numbers in
            [-1, 1]. The training runs on their device.
        denoiser: any callable (x, sigma) -> E[x0 | x], see ``wrap_denoiser``.
        sigmas: lowest and highest noise level.
        objective: name of an objective, or its mapping in a study file, such as
            ``{"name": "mixed"}``, or a function (``dgray.discriminator.objective``).
        discriminator: fields of the section ``discriminator`` of a study file, or a function
            (size, sigma_data, num_classes) that returns a ``torch.nn.Module``; None: a perceptron
            for points, a convolutional network for images.
        generated: samples of the denoiser, for objectives that need them; None: as many as real
            ones are drawn by Heun's method.
        labels: classes of the real samples, one or int64 (n,), if the denoiser (see
            ``wrap_denoiser``) or the discriminator is conditional.
        sigma_data: scale of the data; None: 0.5 for images, the standard deviation of points.
        seed: seed of all random numbers, an integer >= 0.
        fields: further fields of the section ``fit`` of a study file, such as ``epochs``,
            ``batch_size`` and ``learning_rate``.

    Raises:
        GuidedModelError: a value is invalid, or values of the denoiser are not finite.
        FloatingPointError: the loss is no longer finite, although they are.
    """
    settings, seed = _settings(objective, fields), checked_seed(seed)
    sigmas = checked_pair("sigmas", sigmas)
    real = _checked(real, "real")
    size = tuple(real.shape[1:])
    flat = real.reshape(len(real), -1)
    default = SIGMA_DATA if len(size) > 1 else _std(flat)
    scale = default if sigma_data is None else checked_number("sigma_data", sigma_data)
    if not 0 < scale < math.inf:
        raise GuidedModelError(
            f"sigma_data must be > 0 (0: all samples are equal), but is {scale}"
        )
    base = wrap_denoiser(denoiser, size)
    num_classes = 0
    if labels is not None:
        of_base = getattr(base, "num_classes", 0)
        labels = checked_labels(labels, len(real), of_base, lowest=0).to(real.device)
        num_classes = of_base or int(labels.max()) + 1
    space = SampleSpace(size, sigmas, scale, num_classes, real.device)
    ensemble, part = _network(discriminator, space, base, seed)
    task = Task(
        real=_stored(flat)[None],
        real_labels=None if labels is None else labels[None],
        generated=None,
        base=base,
        loss=ObjectiveLoss(
            objective if callable(objective) else build_objective(settings, sigmas)
        ),
        draw_sigma=build_noise_law(settings.noise, sigmas),
        weigh=build_weighting(settings, scale),
        validation=None,
        seed=seed,
    )
    if callable(objective) or settings.objective.spec.needs_generated:
        task = _with_generated(task, space, generated)
    state = TrainingState.start(
        ensemble,
        replicates=[0],
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
    )
    try:
        *_, trained = fit(task, build_training_schedule(settings), state)
    except FloatingPointError:
        _check_denoiser(with_labels(base, None if labels is None else labels[:2]), space, real[:2])
        raise
    member = trained.ensemble.member(0)
    return SampleDiscriminator(
        member, space, part and replace(part, tensors=named_tensors(member))
    )


def _settings(objective: str | Mapping[str, Any] | Objective, fields: Mapping[str, Any]) -> Fit:
    """Return the validated fields of the section ``fit``.

    Raises:
        GuidedModelError: a value is invalid.
    """
    if not isinstance(objective, str | Mapping) and not callable(objective):
        raise GuidedModelError(
            "objective must be one name, mapping or function, but got "
            f"{one_line(repr(objective), 60)}"
        )
    named = {} if callable(objective) else {"objective": objective}
    try:
        values = plain_fields({**named, **fields})
        settings = Fit.model_validate(values)
    except StudyError as error:
        raise GuidedModelError("; ".join(map(str, error.diagnostics))) from error
    except ValidationError as error:
        raise GuidedModelError(_reason(error, "fit", values)) from error
    if settings.patience or settings.checkpoints:
        raise GuidedModelError("patience and checkpoints need a study; leave them out")
    if not callable(objective) and not settings.objective.spec.is_trained:
        raise GuidedModelError(
            f"objective must be one that is trained, but got {settings.objective.name!r}"
        )
    return settings


def _network(
    discriminator: Mapping[str, Any] | Factory | None,
    space: SampleSpace,
    base: Denoiser,
    seed: int,
) -> tuple[Ensemble, TrainedPart]:
    """Return an untrained ensemble of one network on the device, and how it is built."""
    generators = initial_generators(seed, [0])
    problem = SpaceWithBase.of(space, base)
    kind: Mapping[str, Any] = {"kind": _default_kind(space)}
    if callable(discriminator):
        module = build_module_ensemble(
            discriminator,
            generators,
            shape=space.size,
            sigma_data=space.sigma_data,
            num_classes=space.num_classes,
        )
        part = TrainedPart(kind="custom", num_classes=space.num_classes, seed=seed)
        return module.with_tensors([t.to(space.device) for t in module.tensors]), part
    if not isinstance(discriminator, Mapping | None):
        raise GuidedModelError(
            "discriminator must be a mapping of fields, a function or None, but got "
            f"{one_line(repr(discriminator), 60)}; write {{'kind': ...}}"
        )
    adapter: TypeAdapter[Any] = TypeAdapter(DiscriminatorModel)
    try:
        values = {**kind, **plain_fields(discriminator or {})}
        section = adapter.validate_python(values)
    except StudyError as error:
        raise GuidedModelError("; ".join(map(str, error.diagnostics))) from error
    except ValidationError as error:
        raise GuidedModelError(_reason(error, "discriminator", values)) from error
    if getattr(section, "conditional", False) and not space.num_classes:
        raise GuidedModelError(
            "discriminator.conditional needs the classes of the samples, but labels is None; give "
            "labels, or set conditional to False"
        )
    sample_kind = "images" if space.is_image else "points"
    if section.kind in DISCRIMINATORS and sample_kind not in DISCRIMINATORS[section.kind].kinds:
        raise GuidedModelError(f"discriminator.kind {section.kind!r} is not for {sample_kind}")
    part = TrainedPart(
        kind=section.kind,
        arguments=section_arguments(section, DiscriminatorSection),
        factory=getattr(section, "factory", None),
        seed=seed,
    )
    return build_ensemble(section, problem, generators), part


def _default_kind(space: SampleSpace) -> str:
    kind = "images" if space.is_image else "points"
    return next(spec.name for spec in DISCRIMINATORS.built_in if kind in spec.default_for)


def _with_generated(task: Task, space: SampleSpace, generated: TensorLike | None) -> Task:
    """Return the task with samples of the base, drawn here unless they are given."""
    if generated is not None:
        generated = _checked(generated, "generated")
        space.flat(generated[:1])  # a wrong shape is an error
        if task.real_labels is not None and len(generated) != task.real.shape[1]:
            raise GuidedModelError(
                "with labels there must be as many generated samples as real ones, of the same "
                f"classes, but got {len(generated)} and {task.real.shape[1]}"
            )
        stored = _stored(generated.to(space.device).reshape(len(generated), -1))
        return replace(task, generated=stored[None], generated_labels=task.real_labels)
    sigmas = sampler_sigmas(task.base, NUM_STEPS, space.sigmas, RHO)
    drawn = []
    count = task.real.shape[1]
    for first in range(0, count, BATCH_SIZE):
        seeds = range(first, min(first + BATCH_SIZE, count))
        noise = philox_noise(task.seed, seeds, (space.dimension,), "generated").to(space.device)
        labels = None if task.real_labels is None else task.real_labels[0, first : seeds.stop]
        with torch.no_grad():
            base = with_labels(task.base, labels)
            drawn.append(heun(base, float(sigmas[0]) * noise, sigmas).float())
    generated_labels = task.real_labels
    return replace(task, generated=torch.cat(drawn)[None], generated_labels=generated_labels)


def _checked(samples: Any, kind: str) -> Tensor:
    """Return samples as a tensor.

    Raises:
        GuidedModelError: they are fewer than two, empty, not finite, or pixels that are not
            scaled.
    """
    tensor = tensor_of(f"{kind} samples", samples)
    check_scaled(tensor)
    if tensor.ndim < 2 or len(tensor) < 2 or not tensor.numel():
        raise GuidedModelError(
            f"there must be at least 2 {kind} samples of shape (d,) or (C, H, W), but together "
            f"they have shape {tuple(tensor.shape)}"
        )
    if not bool(tensor.isfinite().all()):
        raise GuidedModelError(f"{kind} samples must be finite, but some are NaN or infinite")
    return tensor


@torch.no_grad()
def _check_denoiser(base: Denoiser, space: SampleSpace, samples: Tensor) -> None:
    """Check a denoiser on samples with noise of the lowest and of the highest level.

    Raises:
        GuidedModelError: some of its values are not finite.
    """
    clean = space.flat(samples)
    for sigma in space.sigmas:
        denoised = base(clean + sigma, torch.full_like(clean[:, 0], sigma))
        if not bool(denoised.isfinite().all()):
            raise GuidedModelError(
                "a denoiser must return finite numbers, but some are NaN or infinite at sigma = "
                f"{sigma:g}"
            )


def _stored(flat: Tensor) -> Tensor:
    return flat if flat.dtype == torch.uint8 else flat.float()


def _std(points: Tensor) -> float:
    """Return the root mean variance per coordinate."""
    values = to_unit(points) if points.dtype == torch.uint8 else points.double()
    return math.sqrt(float(values.var(0).mean()))


def _reason(error: ValidationError, section: str, values: dict[str, Any]) -> str:
    """Return the broken rules of a section of a study in one line; ``fit`` is not named."""
    details = error.errors()
    for item in details:
        item["loc"] = (section, *item["loc"])
    broken = merge([explain(item, {section: values}) for item in details])
    return "; ".join(
        one_line(f"{dotted(item.path).removeprefix('fit.')}: {item.rule}") for item in broken
    )
