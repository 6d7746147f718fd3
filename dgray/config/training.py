"""``discriminator`` and ``fit``: the network and how it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dgray.catalogue import DISCRIMINATORS, DiscriminatorSpec
from dgray.config.model import (
    FiniteFloat,
    Model,
    NoiseLevel,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    between,
)
from dgray.config.parts import (
    Arguments,
    ImportPath,
    Objective,
    ObjectivePart,
    inline_spec,
    option_arguments,
    section_union,
)


class DiscriminatorSection(Model):
    """Network of the discriminator."""

    kind: str

    @property
    def spec(self) -> DiscriminatorSpec:
        """Specification of the part in the catalogue."""
        return DISCRIMINATORS[self.kind]


class MlpDiscriminator(DiscriminatorSection):
    """Multilayer perceptron on (x, log sigma) with one logit."""

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = Field(64, description="hidden units per layer")
    depth: PositiveInt = Field(3, description="hidden layers")
    activation: Literal["silu", "softplus", "tanh"] = Field(
        "silu", description="activation; smooth, since guidance is a gradient"
    )
    conditional: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="conditions the logit on the class",
    )


class ConvDiscriminator(DiscriminatorSection):
    """Convolutional encoder of (x, sigma) with one logit, or a head on a frozen trunk."""

    kind: Literal["conv"]
    width: PositiveInt = Field(
        16, description="channels of the first level; the others have twice as many"
    )
    depth: PositiveInt = Field(1, description="residual blocks per level")
    attention: bool = Field(False, description="self-attention over the pixels of the last level")
    conditional: bool = Field(False, description="conditions the logit on the class")
    trunk: str = Field(
        "none",
        description="none; or a frozen network that supplies feature maps: base (the encoder of a "
        "base that is a U-Net), a TorchScript file that workers can read, or module:function that "
        "returns a torch.nn.Module",
    )


class RegisteredDiscriminator(DiscriminatorSection):
    """Discriminator registered by another package."""

    arguments: Arguments = Field({}, description="keyword arguments of the factory")


class CustomDiscriminator(DiscriminatorSection):
    """Discriminator built by a user-defined function."""

    kind: Literal["custom"]
    factory: ImportPath = Field(description="module:function that builds it")
    arguments: Arguments = Field({}, description="keyword arguments of the function")

    @property
    def spec(self) -> DiscriminatorSpec:
        """Specification of the part in the catalogue."""
        return inline_spec(DiscriminatorSpec, self.factory.rpartition(":")[2], self.factory)


if TYPE_CHECKING:
    Discriminator = DiscriminatorSection
else:
    Discriminator: Any = section_union(
        DISCRIMINATORS, lambda spec: RegisteredDiscriminator, CustomDiscriminator
    )


class Noise(Model):
    """Distribution of the noise levels in training."""

    law: Literal["log_uniform", "log_normal"] = Field(
        "log_uniform", description="log_uniform over [low, high], or log_normal, as in EDM"
    )
    low: NoiseLevel | None = Field(
        None,
        description="log_uniform: lowest noise level, perhaps below diffusion.sigma_min, which is "
        "the default (null)",
    )
    high: NoiseLevel | None = Field(
        None,
        description="log_uniform: highest noise level, perhaps above diffusion.sigma_max, which "
        "is the default (null)",
    )
    log_mean: Annotated[FiniteFloat, between(1e-9, 20)] = Field(
        -1.2, description="log_normal: mean of ln sigma"
    )
    log_std: Annotated[PositiveFloat, between(1e-9, 10)] = Field(
        1.2, description="log_normal: standard deviation of ln sigma"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low < high must hold, but got {self.low} and {self.high}")
        return self


class Oscillation(Model):
    """Control ``oscillating``: exact log-ratio + amplitude * sin(frequency * x_1)."""

    amplitude: NonNegativeFloat = Field(0.1, description="amplitude of the oscillation")
    frequency: NonNegativeFloat = Field(3.0, description="frequency along the first coordinate")


class Budget(Model):
    """Equal compute for all corrections."""

    train_flops: Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)] | None = Field(
        None,
        description="floating-point operations of the training of one replicate, as torch counts "
        "them. fit.epochs of each trial is then the number of epochs that fit into it, and "
        "fit.checkpoints, patience and validate_every keep their shares of it; fit.epochs has one "
        "value, neither an axis nor a domain. null: fit.epochs",
    )


class Fit(Model):
    """Training of the discriminator. Regularisers are off by default."""

    objective: Objective = Field(
        ObjectivePart(name="cross_entropy"),
        description="training objective; oracle and oscillating are controls",
    )
    gamma: NonNegativeFloat = Field(
        1.0, description="factor of cross_entropy in mixed: kl + gamma * cross_entropy"
    )
    epochs: PositiveInt = Field(100, description="passes over the real training samples")
    checkpoints: tuple[PositiveInt, ...] | None = Field(
        None, description="epochs at which rows are reported, increasing; null: the last one"
    )
    batch_size: PositiveInt = Field(
        256, description="real samples per step (and as many generated), at most num_real"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="learning rate of Adam")
    learning_rate_decay: Literal["constant", "cosine"] = Field(
        "constant", description="schedule of the learning rate; cosine: to zero at the last epoch"
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled weight decay (AdamW)")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="probability that a hidden unit is dropped in training"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="decay per step of the evaluated weight average; 0: the last weights"
    )
    gradient_penalty: NonNegativeFloat = Field(
        0.0, description="factor of E|sigma grad logit|^2, added to cross_entropy"
    )
    patience: NonNegativeInt = Field(
        0, description="early stopping: epochs without a better validation loss; 0: off"
    )
    validate_every: PositiveInt = Field(
        10, description="early stopping: epochs between validation losses"
    )
    weighting: Literal["likelihood", "edm"] = Field(
        "likelihood",
        description="weighting of noise levels in the loss; likelihood: as in the path KL",
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
    def objective_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the objective: its options of ``fit``, and its ``arguments``."""
        options = option_arguments(self, self.objective.spec.options)
        return options | self.objective.arguments

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """Epochs at which rows are reported."""
        return self.checkpoints or (self.epochs,)
