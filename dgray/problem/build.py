"""Builders: from configuration to objects. Below them no object carries a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dgray.catalogue import Kind
from dgray.config.parts import option_arguments
from dgray.config.study import StudyConfig
from dgray.config.training import Fit, Noise
from dgray.diffusion.noise import named_generator
from dgray.diffusion.sigmas import log_normal, log_uniform
from dgray.discriminator.fit import Task, TrainingSchedule
from dgray.discriminator.fit_state import TrainingState
from dgray.discriminator.objective import (
    Batch,
    Noised,
    denoising_residual,
    edm_weighting,
)
from dgray.discriminator.time_score import time_residual
from dgray.errors import RunRefusedError
from dgray.problem.artifacts import Shared
from dgray.problem.base_model import TrainingData
from dgray.problem.correction import build_loss, build_trained
from dgray.problem.images import (
    build_image_problem,
    image_part_size,
    image_training_data,
    pack_generated_images,
)
from dgray.problem.points import (
    build_point_problem,
    pack_generated_points,
    point_part_size,
    point_training_data,
)
from dgray.problem.problem import Labelled, Problem, Samples, training_split
from dgray.problem.settings import EvaluationSettings, MetricFunction, SplitSizes, StudySampler
from dgray.problem.stored_points import build_stored_point_problem, stored_training_data


def build_device(config: StudyConfig) -> torch.device:
    """Return the device that a trial computes on."""
    resources = config.resources
    if resources.device != "auto":
        return torch.device(resources.device)
    return torch.device("cuda" if resources.gpus_per_trial > 0 else "cpu")


def check_device(config: StudyConfig) -> None:
    """Check that this process has the device that a trial computes on.

    Raises:
        RunRefusedError: if it needs a GPU and there is none.
    """
    if build_device(config).type == "cuda" and not torch.cuda.is_available():
        raise RunRefusedError(
            "resources: the trials need a GPU, but this machine has none that torch can use; set "
            "gpus_per_trial: 0 and device: auto, or start the study where there is one"
        )


@dataclass(frozen=True, kw_only=True)
class KindBuilders:
    """Builders that differ between points and images.

    Attributes:
        problem: the problem, given the fields that all problems share.
        training_data: samples that a base is trained on.
        part_size: number of generated samples per stored part of a split; None: one part.
        pack_generated: artifact of the samples that a base generated, by split.
    """

    problem: Callable[[StudyConfig, Shared, torch.device, Mapping[str, Any]], Problem]
    training_data: Callable[[StudyConfig, Shared], TrainingData]
    part_size: Callable[[StudyConfig], int | None]
    pack_generated: Callable[[Shared, Mapping[str, Labelled]], bytes]


_BUILDERS: Mapping[tuple[Kind, bool], KindBuilders] = {  # by kind, and whether data are stored
    ("points", False): KindBuilders(
        problem=build_point_problem,
        training_data=point_training_data,
        part_size=point_part_size,
        pack_generated=pack_generated_points,
    ),
    ("points", True): KindBuilders(
        problem=build_stored_point_problem,
        training_data=stored_training_data,
        part_size=point_part_size,
        pack_generated=pack_generated_points,
    ),
    ("images", True): KindBuilders(
        problem=build_image_problem,
        training_data=image_training_data,
        part_size=image_part_size,
        pack_generated=pack_generated_images,
    ),
}


def builders_of(config: StudyConfig) -> KindBuilders:
    """Return the builders for the kind of a study's data."""
    return _BUILDERS[config.data.sample_kind, config.data.is_stored]


def build_problem(config: StudyConfig, shared: Shared, device: torch.device) -> Problem:
    """Build data, base and their samples from the shared artifacts of a trial."""
    data, diffusion = config.data, config.diffusion
    values: dict[str, Any] = {
        "seed": config.seed,
        "span": (diffusion.sigma_min, diffusion.sigma_max),
        "prior_std": diffusion.prior_std or diffusion.sigma_max,
        "sizes": SplitSizes(
            num_real=data.num_real * (2 if getattr(data, "flip", False) else 1),
            num_generated=config.base.num_generated,
            num_validation=data.num_validation,
            num_held_out=data.num_held_out,
        ),
        "evaluation": build_evaluation_settings(config),
    }
    return builders_of(config).problem(config, shared, device, values)


def build_evaluation_settings(config: StudyConfig) -> EvaluationSettings:
    """Return the settings of scoring and sampling."""
    evaluate = config.evaluate
    return EvaluationSettings(
        metrics=tuple(part.spec for part in evaluate.metrics),
        metric_functions=build_metric_functions(config),
        validated=config.search.validated,
        reference=evaluate.reference,
        samplers=build_samplers(config),
        rho=config.diffusion.rho,
        num_samples=evaluate.num_samples,
        num_sets=evaluate.sampling_seeds if config.data.sample_kind == "images" else 1,
        shard_size=evaluate.shard_size,
        num_single_features=evaluate.num_single_features,
        batch_size=evaluate.batch_size,
        num_bins=evaluate.num_bins,
        sigmas_per_bin=evaluate.least_sigmas_per_bin,
        refines_held_out=evaluate.sigmas_per_bin == "auto",
        num_noised=evaluate.num_noised,
        num_points=evaluate.num_points,
        num_probes=evaluate.num_probes,
        tolerance=evaluate.tolerance,
        max_steps=evaluate.max_steps,
        calibration=evaluate.calibration,
    )


def build_metric_functions(config: StudyConfig) -> tuple[MetricFunction, ...]:
    """Return the metrics of a study that are functions of samples or features."""
    return tuple(
        MetricFunction(spec=part.spec, function=partial(part.spec.load(), **part.arguments))
        for part in config.evaluate.metrics
        if part.spec.factory is not None
    )


def build_samplers(config: StudyConfig) -> dict[str, StudySampler]:
    """Return the samplers of a study by name."""
    samplers: dict[str, StudySampler] = {}
    for part in config.evaluate.sampler:
        spec = part.spec
        samplers[part.name] = StudySampler(
            spec=spec,
            function=spec.load(),
            options=option_arguments(config.evaluate, spec.options) | part.arguments,
            is_stochastic=spec.is_stochastic,
            is_flow=spec.is_flow,
        )
    return samplers


def build_training(
    config: StudyConfig, problem: Problem, replicates: Sequence[int], state: bytes | None = None
) -> TrainingState:
    """Return the training of a trial's ensemble: not begun, or at a stored state."""
    training = TrainingState.start(
        build_trained(config, problem, replicates),
        replicates=replicates,
        weight_decay=config.fit.weight_decay,
        ema_decay=config.fit.ema_decay,
        patience=config.fit.patience,
    )
    if state is not None:
        training.load_bytes(state)
    return training


def build_training_schedule(fit: Fit) -> TrainingSchedule:
    """Return the training schedule of a configuration."""
    return TrainingSchedule(
        epochs=fit.epochs,
        checkpoints=fit.checkpoint_epochs,
        batch_size=fit.batch_size,
        learning_rate=fit.learning_rate,
        is_cosine=fit.learning_rate_decay == "cosine",
        dropout=fit.dropout,
        patience=fit.patience,
        validate_every=fit.validate_every,
    )


def build_task(config: StudyConfig, problem: Problem, replicates: Sequence[int]) -> Task:
    """Return the learning task of a trial's ensemble, float32 on the problem's device."""
    has_labels = problem.num_classes > 0
    real, real_labels = _stacked(
        problem.real_samples, replicates, problem.sizes.num_real, has_labels=has_labels
    )
    generated, generated_labels = None, None
    if config.needs_generated:
        assert problem.generated_samples is not None  # artifacts that the training needs
        generated, generated_labels = _stacked(
            problem.generated_samples,
            replicates,
            problem.sizes.num_generated,
            has_labels=has_labels,
        )
    return Task(
        real=real,
        real_labels=real_labels,
        generated=generated,
        generated_labels=generated_labels,
        base=problem.base,
        loss=build_loss(config),
        draw_sigma=build_noise_law(config.fit.noise, problem.span),
        weigh=build_weighting(config.fit, problem.sigma_data),
        validation=_validation_batch(config, problem) if config.fit.patience else None,
        seed=config.seed,
    )


def _stacked(
    samples: Samples, replicates: Sequence[int], count: int, *, has_labels: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the training samples of all replicates, (R, count, d), and their classes."""
    splits = [training_split(replicate) for replicate in replicates]
    stacked = torch.stack([samples.stored(split, count) for split in splits])
    labels = [samples.labels(split, count) for split in splits] if has_labels else []
    classes = [labels_of_split for labels_of_split in labels if labels_of_split is not None]
    assert len(classes) in (0, len(splits)), "all splits must have classes, or none"
    return stacked, torch.stack(classes) if classes else None


@torch.no_grad()
def _validation_batch(config: StudyConfig, problem: Problem) -> Batch:
    """Return the validation split, one noise level per sample, for early stopping; (1, N, d)."""
    generator = named_generator(problem.seed, "noise", "early stopping")
    count = problem.sizes.num_validation
    sigma = build_noise_law(config.fit.noise, problem.span)(generator, count)
    noised = []
    for clean, labels in (
        problem.real_labelled("validation"),
        problem.generated_labelled("validation"),
    ):
        noise = torch.randn(clean.shape, generator=generator)
        x, n, s = (t.to(problem.device, torch.float32)[None] for t in (clean, noise, sigma))
        noised.append(Noised.of(x, n, s, None if labels is None else labels[None]))
    real, generated = noised
    return Batch(
        real,
        lambda: denoising_residual(problem.base, real).float(),
        generated,
        lambda: time_residual(problem.base, real).float(),
    )


def build_noise_law(
    noise: Noise, span: tuple[float, float]
) -> Callable[[torch.Generator, int], Tensor]:
    """Return a function that draws training noise levels, float32 (count,) on the CPU."""
    if noise.law == "log_normal":
        return lambda g, n: log_normal(torch.randn(n, generator=g), noise.log_mean, noise.log_std)
    low, high = noise.low or span[0], noise.high or span[1]
    return lambda g, n: log_uniform(torch.rand(n, generator=g), low, high)


def build_weighting(fit: Fit, sigma_data: float) -> Callable[[Tensor], Tensor]:
    """Return the factor on the loss at each noise level."""
    if fit.weighting == "edm":
        return lambda sigma: edm_weighting(sigma, sigma_data)
    return torch.ones_like
