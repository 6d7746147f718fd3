"""``resources``: CPUs, GPUs and memory of trials."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from dgray.config.model import (
    Model,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

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
        "discriminator, objective, correction, metric, sampler, features); then its process is "
        "killed and the trial recorded as failed. null: no limit",
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
