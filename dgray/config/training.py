"""``discriminator`` and ``fit``: the network and how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dgray.config.model import (
    FiniteFloat,
    Model,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

Objective = Literal["cross_entropy", "kl", "mixed", "oracle", "oscillating"]
TRAINED_OBJECTIVES = ("cross_entropy", "kl", "mixed")


class MlpDiscriminator(Model):
    """A multilayer perceptron on (x, log sigma) with one logit."""

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = Field(64, description="hidden units per layer")
    depth: PositiveInt = Field(3, description="hidden layers")
    activation: Literal["silu", "softplus", "tanh"] = Field(
        "silu", description="smooth, since guidance is a gradient"
    )


class Noise(Model):
    """The law of the noise levels in training."""

    law: Literal["log_uniform", "log_normal"] = Field(
        "log_uniform", description="log_uniform over [low, high]; log_normal: EDM's"
    )
    low: PositiveFloat | None = Field(None, description="null: diffusion.sigma_min")
    high: PositiveFloat | None = Field(None, description="null: diffusion.sigma_max")
    log_mean: FiniteFloat = Field(-1.2, description="of ln sigma, for log_normal")
    log_std: PositiveFloat = Field(1.2, description="of ln sigma, for log_normal")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low < high must hold, but got {self.low} and {self.high}")
        return self


class Oscillation(Model):
    """The control ``oscillating``: exact log-ratio + amplitude * sin(frequency * x_1)."""

    amplitude: NonNegativeFloat = Field(0.1, description="a")
    frequency: NonNegativeFloat = Field(3.0, description="k, along the first coordinate")


class Fit(Model):
    """Training of the discriminator. Regularisers are off unless asked for."""

    objective: Objective = Field(
        "cross_entropy", description="what is minimised; oracle and oscillating are controls"
    )
    gamma: NonNegativeFloat = Field(1.0, description="mixed: kl + gamma * cross_entropy")
    epochs: PositiveInt = Field(100, description="passes over the real training samples")
    checkpoints: tuple[PositiveInt, ...] | None = Field(
        None, description="epochs at which rows are reported, increasing; null: the last"
    )
    batch_size: PositiveInt = Field(
        256, description="real samples per step (and as many generated), at most num_real"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="Adam's")
    learning_rate_decay: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: to zero at the last epoch"
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled (AdamW)")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="probability that a hidden unit is dropped in training"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="per step, of the averaged weights that are evaluated; 0: none"
    )
    gradient_penalty: NonNegativeFloat = Field(
        0.0, description="cross_entropy + penalty * E|sigma grad logit|^2"
    )
    patience: NonNegativeInt = Field(
        0, description="early stopping: epochs without a better validation loss; 0: off"
    )
    validate_every: PositiveInt = Field(
        10, description="early stopping: epochs between validation losses"
    )
    weighting: Literal["likelihood", "edm"] = Field(
        "likelihood", description="of the noise levels; likelihood: the path KL's"
    )
    noise: Noise = Noise()
    oscillation: Oscillation = Oscillation()

    @model_validator(mode="after")
    def _checkpoints_ordered(self) -> Self:
        points = self.checkpoints
        if points is None:
            return self
        if not points or list(points) != sorted(set(points)):
            raise ValueError(f"checkpoints must be in increasing order, but got {list(points)}")
        if points[-1] > self.epochs:
            raise ValueError(
                f"checkpoints must be <= epochs, but got {points[-1]} > {self.epochs}"
            )
        return self

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """Epochs at which rows are reported."""
        return self.checkpoints or (self.epochs,)
