"""Configuration of a trial: the whole study with one value on every training axis."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dgray.catalogue import (
    METRICS,
    POINTS_AND_IMAGES,
    ColumnSpec,
    method_name,
    validation_columns,
    with_errors,
)
from dgray.catalogue.objects import install, objects_of
from dgray.config.bases import Base
from dgray.config.correction import Correction
from dgray.config.data import Data, Diffusion
from dgray.config.model import (
    Factor,
    Model,
    NoiseLevel,
    NonNegativeFloat,
    NonNegativeInt,
    OneOrMore,
    PositiveFloat,
    PositiveInt,
    Seed,
    between,
)
from dgray.config.parts import Metric, MetricPart, Sampler, SamplerPart, unique_names
from dgray.config.search import GridSearch, Search
from dgray.config.training import Budget, Discriminator, Fit, MlpDiscriminator

Weight = NonNegativeFloat | Literal["calibrated"]
FEATURES = (
    r"^(cnn|inception_clean|inception_legacy_pytorch|inception_legacy_tensorflow"
    r"|efficientnet_lite0|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
)
Interval = tuple[NoiseLevel, NoiseLevel] | None


def _as_intervals(value: object) -> object:
    """Return ``value`` as a tuple; null or one pair becomes a tuple of length one."""
    if not isinstance(value, list | tuple):
        return (value,)
    if value and isinstance(value[0], int | float):
        return (tuple(value),)
    return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value)


def _metric_names() -> str:
    """Return the metrics of points and those of images, for the documentation of the field."""
    names = {
        kind: ", ".join(metric.name for metric in METRICS.built_in if kind in metric.kinds)
        for kind in POINTS_AND_IMAGES
    }
    return ". ".join(f"For {kind}: {text}" for kind, text in names.items())


class Churn(Model):
    """Stochastic sampler of EDM (Karras et al. 2022, Algorithm 2, Table 5 for CIFAR-10)."""

    S_churn: NonNegativeFloat = Field(30.0, description="total amount of noise added back")
    S_min: NonNegativeFloat = Field(0.01, description="lowest sigma with churn")
    S_max: Annotated[float, Field(gt=0, allow_inf_nan=True), between(1e-9, 1e9)] = Field(
        1.0, description="highest sigma with churn; .inf: no limit"
    )
    S_noise: Factor = Field(1.007, description="inflation of the added noise")


class Restart(Model):
    """Restart sampler (Xu et al. 2023): noise from ``low`` to ``high``, then the ODE back."""

    levels: tuple[tuple[NoiseLevel, NoiseLevel], ...] = Field(
        ((0.1, 2.0),), description="restart intervals [low, high] of sigma"
    )
    K: Annotated[tuple[PositiveInt, ...], OneOrMore] = Field(
        (2,), description="restarts of each interval: one number, or one per interval"
    )
    N: Annotated[tuple[PositiveInt, ...], OneOrMore] = Field(
        (6,), description="Heun steps from high to low, likewise"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.levels:
            raise ValueError("levels must have at least one interval, but got []")
        for low, high in self.levels:
            if not low < high:
                raise ValueError(f"levels must be [low, high], low < high, but got {[low, high]}")
        for name, counts in (("K", self.K), ("N", self.N)):
            if len(counts) not in (1, len(self.levels)):
                raise ValueError(
                    f"{name} must be one number, or one per interval, but got {len(counts)} for "
                    f"{len(self.levels)} intervals"
                )
        return self


class Evaluate(Model):
    """Evaluation of checkpoints; the first five fields are evaluation axes (lists)."""

    guidance_weight: Annotated[tuple[Weight, ...], OneOrMore] = Field(
        (1.0, "calibrated"),
        description="0 = off, 1 = exact correction; calibrated: the function of sigma that is "
        "best on the validation split, 0 unless significantly better than the base there; the "
        "base is always added",
    )
    sampler: Annotated[tuple[Sampler, ...], OneOrMore] = Field(
        (SamplerPart(name="ode"),),
        description="ode: Heun; churn: stochastic sampler of EDM; sde: reverse SDE; "
        "restart: Heun with restarts from higher noise",
    )
    num_steps: Annotated[tuple[PositiveInt, ...], OneOrMore] = Field(
        (32,), description="steps of the sampler"
    )
    guidance_interval: Annotated[tuple[Interval, ...], BeforeValidator(_as_intervals)] = Field(
        (None,), description="[low, high]: range of sigma in which guidance acts; null: everywhere"
    )
    guided_stage: Annotated[tuple[Literal["both", "predictor"], ...], OneOrMore] = Field(
        ("both",), description="predictor: only the first stage of Heun, as in Kim et al. 2023"
    )
    calibration: Literal["least_squares", "mmd"] = Field(
        "least_squares",
        description="what guidance weight calibrated minimises on the validation split; "
        "least_squares: the denoising error; mmd: the distance in distribution of denoised from "
        "noised data, as in Galashov et al. 2025, without a test of significance",
    )
    metrics: tuple[Metric, ...] = Field(
        (MetricPart(name="kl"), MetricPart(name="path_kl")),
        description="metrics to compute; path_kl (its change for images), losses and score error "
        "are always computed. " + _metric_names() + ". The default is kl and path_kl for points "
        "(path_kl if their density is unknown), path_kl and memorisation for images",
    )
    num_points: PositiveInt = Field(
        500, description="held-out points for kl and nll (an ODE is solved from each)"
    )
    num_samples: PositiveInt = Field(
        1000, description="samples drawn for metrics of samples and for pictures"
    )
    sampling_seeds: PositiveInt = Field(
        1,
        description="images: sets of num_samples that are drawn and scored separately; with two "
        "or more, standard errors are the spread between them",
    )
    tolerance: PositiveFloat = Field(
        1e-4, description="kl and nll: numerical error of the log-density of a point, in nats"
    )
    max_steps: PositiveInt = Field(
        1000, description="kl: steps after which a point counts as not converged"
    )
    num_bins: PositiveInt = Field(12, description="noise-level bins, of equal width in log sigma")
    sigmas_per_bin: PositiveInt | Literal["auto"] = Field(
        4,
        description="noise levels per bin in every average; auto: 4, but on the held-out split as "
        "many as the noise levels need to add at most as much variance to the path KL of the base "
        "as the points do, up to 64",
    )
    num_noised: PositiveInt | None = Field(
        None, description="validation and held-out samples that noise is added to; null: all"
    )
    num_probes: PositiveInt = Field(
        8, description="nll in more than 64 dimensions: probes of the Hutchinson estimator"
    )
    features: Annotated[str, Field(pattern=FEATURES)] = Field(
        "cnn",
        description="images: features for fid, fd, kid and similar metrics: cnn (trained by dgray "
        "on the labels), inception_clean, inception_legacy_pytorch, inception_legacy_tensorflow, "
        "efficientnet_lite0, or a user-defined module:function",
    )
    inception_weights: str | None = Field(
        None,
        description="file of the weights of Inception, read once on the machine of the driver; "
        "null: DGRAY_INCEPTION, or where clean-fid stores it",
    )
    reference: str = Field(
        "held_out",
        description="images that features are compared with: held_out, training, or an npz file "
        "with mu and sigma (as of EDM), for fid or fd only",
    )
    num_single_features: PositiveInt = Field(
        10_000,
        description="images of a set whose features are kept for metrics of single features (kid, "
        "precision, recall, density, coverage and those of other packages): the first ones; fid "
        "and fd are of all images, whose mean and scatter are accumulated",
    )
    batch_size: PositiveInt = Field(128, description="images per call of a network")
    shard_size: PositiveInt = Field(250, description="images that are drawn and scored together")
    churn: Churn = Churn()
    restart: Restart = Restart()

    @property
    def least_sigmas_per_bin(self) -> int:
        """Noise levels per bin; the least number of them if they are chosen automatically."""
        return 4 if self.sigmas_per_bin == "auto" else self.sigmas_per_bin

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics to compute."""
        return tuple(metric.name for metric in self.metrics)

    def has_metric(self, **properties: object) -> bool:
        """True if the specification of some metric has these properties."""
        return any(
            all(getattr(metric.spec, name) == value for name, value in properties.items())
            for metric in self.metrics
        )

    @property
    def added_columns(self) -> tuple[ColumnSpec, ...]:
        """Columns of rows that belong to metrics of other packages."""
        specs = [metric.spec for metric in self.metrics]
        added = [spec for spec in specs if spec not in METRICS.built_in]
        columns = (column for spec in added for column in spec.columns)
        return tuple(with_errors([*columns, *validation_columns(added)]))

    @property
    def sampler_names(self) -> tuple[str, ...]:
        """Names of the samplers."""
        return tuple(sampler.name for sampler in self.sampler)

    def sampler_named(self, name: str) -> SamplerPart:
        """Return the sampler of this name."""
        return next(sampler for sampler in self.sampler if sampler.name == name)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        unique_names("metrics", self.metrics)
        unique_names("sampler", self.sampler)
        return self

    @model_validator(mode="after")
    def _intervals_ordered(self) -> Self:
        for interval in self.guidance_interval:
            if interval is not None and not interval[0] < interval[1]:
                raise ValueError(f"low < high must hold in guidance_interval, but got {interval}")
        return self


_GPU_STEPS = 10_000  # Ray counts GPUs in units of 1 / 10,000


class Resources(Model):
    """Resources of trials."""

    cpus_per_trial: PositiveInt = Field(
        1, description="CPUs of each trial, and its number of torch threads"
    )
    gpus_per_trial: NonNegativeFloat = Field(
        0.0,
        description="GPUs of each trial: a whole number, or a fraction below 1 of a shared GPU",
    )
    max_concurrent_trials: PositiveInt | None = Field(
        None, description="trials that run at the same time; null: as many as fit"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="torch device; auto: cuda if gpus_per_trial > 0, else cpu. Apple's mps is not "
        "supported: it lacks float64",
    )
    compile: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="compile the network of the base by torch.compile, which changes results by "
        "rounding; it runs uncompiled where that is not possible",
    )
    channels_last: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="store the weights of the base's network with the channels last, for tensor "
        "cores; changes results by rounding",
    )
    sampling_actors: NonNegativeInt = Field(
        0,
        description="images: additional processes per trial that draw and score its samples; 0: "
        "the process of the trial draws and scores them",
    )
    cpus_per_actor: PositiveInt = Field(1, description="CPUs of each sampling actor")
    gpus_per_actor: NonNegativeFloat = Field(0.0, description="GPUs of each sampling actor")
    max_failures: NonNegativeInt = Field(
        1,
        description="retries of a trial, an artifact or a shard of samples whose process died; "
        "after them the trial fails",
    )
    trial_time_limit: PositiveFloat | None = Field(
        None,
        description="seconds from its start or retry after which a trial is stopped and recorded "
        "as failed; the next session resumes it. The ray engine kills a hung trial; the local "
        "engine checks the time between checkpoints only. null: no limit",
    )
    part_time_limit: PositiveFloat | None = Field(
        3600.0,
        description="seconds that one call of a function of another package may take (data, base, "
        "discriminator, objective, sampler, metric, features); then its process is killed and the "
        "trial recorded as failed. null: no limit",
    )
    result_cache: str | None = Field(
        None,
        description="folder of results shared by studies: a trial that was run before with the "
        "same data and code is copied from it, and new results are added to it; null: none",
    )

    @model_validator(mode="after")
    def _gpus_countable(self) -> Self:
        for name, amount in (
            ("gpus_per_trial", self.gpus_per_trial),
            ("gpus_per_actor", self.gpus_per_actor),
        ):
            if amount > 1 and not amount.is_integer():
                raise ValueError(
                    f"{name} must be a whole number of GPUs, or a fraction of one, but got "
                    f"{amount:g}; write {math.floor(amount)} or {math.ceil(amount)}"
                )
            if abs(amount * _GPU_STEPS - round(amount * _GPU_STEPS)) > 1e-6:
                raise ValueError(
                    f"{name} must be a multiple of {1 / _GPU_STEPS:g}, but got {amount!r}"
                )
        return self


_OBJECTS = "python_objects"  # of a pickled configuration


class StudyConfig(Model):
    """Study whose training axes all have one value; evaluation axes are tuples."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")] = Field(
        description="name of the run folder: at most 100 letters, digits, _ and -"
    )
    description: str = Field("", description="question of the study, printed in the report")
    question: Literal["agreement", "effect", "objectives", "controls", "corrections"] | None = (
        Field(
            None,
            description="what the report answers first: do the metrics agree; what does guidance "
            "change; which objective is better; how do controls behave; which "
            "corrections gain at which cost. null: chosen by the metrics "
            "and objectives of the study",
        )
    )
    seed: Seed = Field(0, description="seed of all random numbers")
    replicates: PositiveInt = Field(3, description="seeds per trial, trained together")
    diffusion: Diffusion = Diffusion()
    data: Data
    base: Base
    correction: Correction = Correction()
    discriminator: Discriminator = MlpDiscriminator()
    fit: Fit = Fit()
    budget: Budget = Budget()
    evaluate: Evaluate = Evaluate()
    search: Search = GridSearch(method="grid")
    resources: Resources = Resources()

    @property
    def method(self) -> str:
        """Name of its correction with the objective of its discriminator, if it has one."""
        correction = self.correction
        own = self.fit.objective.name if correction.spec.needs_discriminator else correction.name
        return method_name(correction.name, own)

    @property
    def is_trained(self) -> bool:
        """True if its correction is trained; false for controls."""
        spec = self.correction.spec
        return self.fit.objective.spec.is_trained if spec.needs_discriminator else spec.is_trained

    @property
    def needs_generated(self) -> bool:
        """True if the training of its correction reads samples of the base."""
        spec = self.correction.spec
        return spec.needs_generated or (
            spec.needs_discriminator and self.fit.objective.spec.needs_generated
        )

    def __getstate__(self) -> dict[Any, Any]:
        """Add the Python objects that it names, so that another process has them."""
        return {**super().__getstate__(), _OBJECTS: objects_of(self.model_dump(mode="json"))}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        install(state[_OBJECTS])
        super().__setstate__({key: value for key, value in state.items() if key != _OBJECTS})

    @model_validator(mode="after")
    def _default_metrics(self) -> Self:
        """Let the default metrics fit the data."""
        if "metrics" not in self.evaluate.model_fields_set:
            metrics = tuple(
                MetricPart(name=spec.name)
                for spec in METRICS.built_in
                if self.data.sample_kind in spec.default_for
                and (self.data.spec.has_density or not spec.needs_density)
            )
            evaluate = self.evaluate.model_copy(update={"metrics": metrics})
            object.__setattr__(self, "evaluate", evaluate)
        return self
