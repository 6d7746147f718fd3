"""The whole study with every axis resolved: what one trial is run from."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dgray.config.conv_discriminator import ConvDiscriminator
from dgray.config.data import Base, Data, Diffusion
from dgray.config.model import (
    Model,
    NonNegativeFloat,
    NonNegativeInt,
    OneOrMore,
    PositiveFloat,
    PositiveInt,
)
from dgray.config.search import GridSearch, Search
from dgray.config.training import Fit, MlpDiscriminator

Weight = NonNegativeFloat | Literal["calibrated"]
FEATURES = (
    r"^(cnn|inception_clean|inception_legacy_pytorch|inception_legacy_tensorflow"
    r"|efficientnet_lite0|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
)
Interval = tuple[PositiveFloat, PositiveFloat] | None
Metric = Literal[
    "kl",
    "path_kl",
    "kl_sde",
    "kl_sampler",
    "memorisation",
    "nll",
    "fid",
    "fd",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
]
SamplerName = Literal["ode", "churn", "sde"]


def _as_intervals(value: object) -> object:
    """``null`` or one pair where a list of intervals is expected is a list of one."""
    if not isinstance(value, list | tuple):
        return (value,)
    if value and isinstance(value[0], int | float):
        return (tuple(value),)
    return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value)


def _with_kind(value: object) -> object:
    """A discriminator whose kind is not said is a perceptron."""
    return {"kind": "mlp", **value} if isinstance(value, dict) else value


Discriminator = Annotated[
    Annotated[MlpDiscriminator | ConvDiscriminator, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]


class Churn(Model):
    """EDM's stochastic sampler (Karras et al. 2022, Algorithm 2, Table 5 for CIFAR-10)."""

    S_churn: NonNegativeFloat = Field(30.0, description="total amount of noise added back")
    S_min: NonNegativeFloat = Field(0.01, description="lowest sigma with churn")
    S_max: PositiveFloat = Field(1.0, description="highest sigma with churn")
    S_noise: PositiveFloat = Field(1.007, description="inflation of the added noise")


class Evaluate(Model):
    """What is read off a checkpoint; the first five fields are evaluation axes (lists)."""

    guidance_weight: Annotated[tuple[Weight, ...], OneOrMore] = Field(
        (1.0, "calibrated"), description="0 = off, 1 = exact correction; the base is always added"
    )
    sampler: Annotated[tuple[SamplerName, ...], OneOrMore] = Field(
        ("ode",), description="ode: Heun; churn: EDM's stochastic; sde: reverse SDE"
    )
    num_steps: Annotated[tuple[PositiveInt, ...], OneOrMore] = Field(
        (32,), description="steps of the sampler"
    )
    guidance_interval: Annotated[tuple[Interval, ...], BeforeValidator(_as_intervals)] = Field(
        (None,), description="[low, high]: guidance acts at these sigma only; null: everywhere"
    )
    guided_stage: Annotated[tuple[Literal["both", "predictor"], ...], OneOrMore] = Field(
        ("both",), description="predictor: only Heun's first stage (Kim et al. 2023's setting)"
    )
    metrics: tuple[Metric, ...] = Field(
        ("kl", "path_kl"),
        description="what to compute; path_kl (of images its change), losses and score error are "
        "always computed. Of points: kl, kl_sde, kl_sampler, memorisation. Of images: nll, and of "
        "their features fid or fd, kid, precision, recall, density, coverage, memorisation",
    )
    num_points: PositiveInt = Field(
        500, description="held-out points for kl and nll (an ODE is solved from each)"
    )
    num_samples: PositiveInt = Field(
        1000, description="samples drawn for the metrics of samples and the pictures"
    )
    sampling_seeds: PositiveInt = Field(
        1,
        description="of images: sets of num_samples that are drawn and scored apart; from two on, "
        "errors are the spread between them",
    )
    tolerance: PositiveFloat = Field(
        1e-4, description="kl: local error of log-density (nats) and of x / sigma per step"
    )
    max_steps: PositiveInt = Field(
        1000, description="kl: steps of a point, after which it counts as not converged"
    )
    num_bins: PositiveInt = Field(12, description="noise-level bins, equal in log sigma")
    sigmas_per_bin: PositiveInt = Field(4, description="noise levels per bin in every average")
    num_noised: PositiveInt | None = Field(
        None, description="validation and held-out samples that are noised; null: all of them"
    )
    num_probes: PositiveInt = Field(
        8, description="nll of more than 64 dimensions: probes of Hutchinson's divergence"
    )
    features: Annotated[str, Field(pattern=FEATURES)] = Field(
        "cnn",
        description="of images, for fid, fd, kid and the others: cnn (trained by dgray on the "
        "labels), inception_clean, inception_legacy_pytorch, inception_legacy_tensorflow, "
        "efficientnet_lite0, or your own as module:function",
    )
    inception_weights: str | None = Field(
        None,
        description="file of Inception's weights, read once on the driver's machine; null: "
        "DGRAY_INCEPTION there, or clean-fid's place",
    )
    reference: str = Field(
        "held_out",
        description="images that features are compared with: held_out, training, or an npz with "
        "mu and sigma (EDM's), which gives fid or fd alone",
    )
    batch_size: PositiveInt = Field(128, description="images a network sees at a time")
    shard_size: PositiveInt = Field(250, description="images drawn and scored at a time")
    churn: Churn = Churn()

    @model_validator(mode="after")
    def _intervals_ordered(self) -> Self:
        for interval in self.guidance_interval:
            if interval is not None and not interval[0] < interval[1]:
                raise ValueError(f"low < high must hold in guidance_interval, but got {interval}")
        return self


_GPU_STEPS = 10_000  # of one GPU: the finest that Ray counts


class Resources(Model):
    """What a trial may use."""

    cpus_per_trial: PositiveInt = Field(1, description="also the number of torch threads")
    gpus_per_trial: NonNegativeFloat = Field(
        0.0, description="a whole number, or a fraction below 1 of one that trials share"
    )
    max_concurrent_trials: PositiveInt | None = Field(None, description="null: as many as fit")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: cuda if gpus_per_trial > 0, else cpu"
    )
    sampling_actors: NonNegativeInt = Field(
        0,
        description="of images: processes that draw and score samples for each trial, beside it; "
        "0: the trial itself",
    )
    cpus_per_actor: PositiveInt = Field(1, description="of each of them")
    gpus_per_actor: NonNegativeFloat = Field(0.0, description="of each of them, likewise")
    max_failures: NonNegativeInt = Field(
        1,
        description="times a trial, an artifact or a sampling actor's shard is tried again after "
        "its process died; then the trial fails",
    )
    trial_time_limit: PositiveFloat | None = Field(
        None,
        description="seconds after which a trial that was started or tried again is ended and "
        "failed; the next session goes on with it. Under ray a hung trial is killed; the local "
        "engine looks at the clock between checkpoints only. null: none",
    )
    result_cache: str | None = Field(
        None,
        description="folder of results that studies share: a trial that was run before, with the "
        "same data and code, is copied from there, and new ones are kept there; null: none",
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


class StudyConfig(Model):
    """A study whose training axes all have one value; evaluation axes stay tuples."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = Field(
        description="names the run folder: letters, digits, _ and -"
    )
    description: str = Field("", description="the question it answers, printed in the report")
    seed: NonNegativeInt = Field(0, description="of everything random")
    replicates: PositiveInt = Field(3, description="seeds per trial, trained as one ensemble")
    diffusion: Diffusion = Diffusion()
    data: Data
    base: Base
    discriminator: Discriminator = MlpDiscriminator()
    fit: Fit = Fit()
    evaluate: Evaluate = Evaluate()
    search: Search = GridSearch(method="grid")
    resources: Resources = Resources()
