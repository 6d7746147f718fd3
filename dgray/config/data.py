"""``diffusion``, ``data`` and ``base``: the noise range, the data, and the model to be refined."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dgray.config.image_base import DiffusersBase, EdmBase
from dgray.config.image_data import (
    Cifar10Data,
    DigitsData,
    FolderData,
    GlyphsData,
    NpzData,
    ZipData,
)
from dgray.config.model import FiniteFloat, Model, NonNegativeInt, PositiveFloat, PositiveInt

MixtureName = Literal["ring8", "grid25", "five_gaussians_1d", "axes16"]
MIXTURE_DIMENSIONS = {"ring8": 2, "grid25": 2, "five_gaussians_1d": 1, "axes16": 16}


class Diffusion(Model):
    """Noise levels of the base model (Karras et al. 2022, Table 1): x = x0 + sigma n."""

    sigma_min: PositiveFloat = Field(0.002, description="lowest noise level")
    sigma_max: PositiveFloat = Field(80.0, description="highest noise level")
    rho: PositiveFloat = Field(7.0, description="spacing of a sampler's steps")
    sigma_data: PositiveFloat | None = Field(
        None, description="scale of the data in preconditioning; null: its standard deviation"
    )
    prior_std: PositiveFloat | None = Field(
        None, description="standard deviation of the samplers' start; null: sigma_max"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min < sigma_max must hold, but got {self.sigma_min} and {self.sigma_max}"
            )
        return self


class Components(Model):
    """A Gaussian mixture written out: K components in d dimensions, diagonal covariances."""

    means: tuple[tuple[FiniteFloat, ...], ...] = Field(description="K means of d numbers")
    stds: tuple[PositiveFloat, ...] = Field(description="K standard deviations")
    weights: tuple[PositiveFloat, ...] | None = Field(
        None, description="K weights, normalised to sum to 1; null: equal"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sizes = {len(mean) for mean in self.means}
        if not self.means or len(sizes) != 1 or 0 in sizes:
            raise ValueError(f"all means must have the same dimension >= 1, but got {sizes}")
        for name, values in (("stds", self.stds), ("weights", self.weights)):
            if values is not None and len(values) != len(self.means):
                raise ValueError(
                    f"{name} must have one entry per mean, but got {len(values)} for "
                    f"{len(self.means)} means"
                )
        return self


class MixtureData(Model):
    """Data with a known density: a Gaussian mixture, exact at every noise level."""

    kind: Literal["mixture"]
    name: MixtureName | None = Field(None, description="a named mixture")
    components: Components | None = Field(None, description="or one written out")
    num_real: PositiveInt = Field(
        1000, description="real training samples of each replicate (its own draw)"
    )
    num_validation: PositiveInt = Field(
        1000, description="samples for calibration, early stopping and selection"
    )
    num_held_out: PositiveInt = Field(2000, description="samples on which metrics are reported")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.components is None):
            raise ValueError("name or components must be given, and not both")
        return self


class WrongMixture(Model):
    """A base that is wrong by a known amount: exact score, exact log-ratio to the data."""

    kind: Literal["wrong_mixture"]
    of: MixtureName | None = Field(
        None, description="the mixture to distort; null: the data's own"
    )
    mean_shift: tuple[FiniteFloat, ...] | FiniteFloat = Field(
        0.0, description="added to every mean (a number, or one per dimension)"
    )
    mean_scale: PositiveFloat = Field(1.0, description="every mean is multiplied by this")
    std_scale: PositiveFloat = Field(1.0, description="every standard deviation, likewise")
    weight_slope: Annotated[float, Field(gt=-1, lt=1)] = Field(
        0.0, description="weights times 1 + slope u, u from -1 (first component) to 1 (last)"
    )
    components: Components | None = Field(
        None, description="or the whole wrong mixture written out; then no other error is given"
    )
    num_generated: NonNegativeInt = Field(
        10_000, description="generated training samples of each replicate (for cross-entropy)"
    )

    @model_validator(mode="after")
    def _one_definition(self) -> Self:
        errors = ("of", "mean_shift", "mean_scale", "std_scale", "weight_slope")
        fields = type(self).model_fields
        given = [name for name in errors if getattr(self, name) != fields[name].default]
        if self.components is not None and given:
            raise ValueError(f"components replaces {', '.join(given)}; give one or the other")
        return self


class TrainedBase(Model):
    """An EDM-preconditioned denoiser fitted by dgray to samples of the data.

    The defaults suit points. On one core, ``width: 256, steps: 3000, batch_size: 128,
    learning_rate: 2e-3`` learns the digits in half a minute, and ``width: 16, depth: 1,
    steps: 1200, batch_size: 64, learning_rate: 2e-3`` glyphs of 16 pixels in eight.
    """

    kind: Literal["trained"]
    network: Literal["mlp", "unet"] | None = Field(
        None,
        description="a multilayer perceptron, or a DDPM++ U-Net (square images); null: mlp for "
        "points and for images of at most 64 values, else unet",
    )
    width: PositiveInt = Field(
        64,
        description="mlp: hidden units per layer; unet: channels at full resolution, twice "
        "as many at every coarser level, down to 4 pixels",
    )
    depth: PositiveInt = Field(
        3, description="mlp: hidden layers; unet: residual blocks per level"
    )
    attention: bool = Field(
        False,
        description="unet: self-attention at 16 x 16 pixels, as in EDM's; the coarsest level "
        "has it anyway",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of hidden activations dropped in training"
    )
    conditional: bool = Field(
        False,
        description="one denoiser for every class of the data; a tenth of its training samples "
        "come without their class",
    )
    num_real: PositiveInt = Field(2000, description="data samples it is fitted to (its own draw)")
    steps: PositiveInt = Field(2000, description="optimiser steps")
    batch_size: PositiveInt = Field(256, description="samples per step")
    learning_rate: PositiveFloat = Field(1e-3, description="Adam's, at its highest")
    learning_rate_decay: Literal["constant", "cosine"] = Field(
        "cosine", description="over the whole training"
    )
    warmup: NonNegativeInt = Field(
        100, description="first steps, over which the learning rate rises linearly"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999,
        description="weight average that is used, per step; its half-life is at most 5 % of the "
        "steps so far (Karras et al. 2022); 0: the last weights",
    )
    generation_steps: PositiveInt = Field(32, description="Heun steps that draw its samples")
    num_generated: NonNegativeInt = Field(
        10_000, description="generated training samples of each replicate (for cross-entropy)"
    )

    @model_validator(mode="after")
    def _attention_of_unet(self) -> Self:
        if self.attention and self.network == "mlp":
            raise ValueError(
                "attention is a part of network: unet, but network is mlp; set attention: false"
            )
        return self


Data = Annotated[
    MixtureData | DigitsData | GlyphsData | Cifar10Data | FolderData | ZipData | NpzData,
    Field(discriminator="kind"),
]
Base = Annotated[WrongMixture | TrainedBase | EdmBase | DiffusersBase, Field(discriminator="kind")]
