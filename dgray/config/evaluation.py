"""``evaluate``: settings, metrics and samples of an evaluation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dgray.catalogue import (
    FEATURES,
    METRICS,
    POINTS_AND_IMAGES,
    ColumnSpec,
    FeaturesSpec,
    validation_columns,
    with_errors,
)
from dgray.config.model import (
    Factor,
    Model,
    NoiseLevel,
    NonNegativeFloat,
    OneOrMore,
    PositiveFloat,
    PositiveInt,
    between,
)
from dgray.config.parts import (
    Metric,
    MetricPart,
    Sampler,
    SamplerPart,
    inline_spec,
    unique_names,
)
from dgray.data.summary import counted

Weight = NonNegativeFloat | Literal["calibrated"]
_FEATURES = rf"^({'|'.join(FEATURES)}|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
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
                    f"{counted(len(self.levels), 'interval')}"
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
    features: Annotated[str, Field(pattern=_FEATURES)] = Field(
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
    def features_spec(self) -> FeaturesSpec:
        """Specification of the features of images."""
        name = self.features
        return FEATURES.get(name) or inline_spec(FeaturesSpec, name, name)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics to compute."""
        return tuple(metric.name for metric in self.metrics)

    def has_metric(self, **properties: object) -> bool:
        """Return True if the specification of some metric has these properties."""
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
