"""``base``: the pretrained denoiser to be corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dgray.catalogue import BASES, NETWORKS, BaseSpec, NetworkName
from dgray.config.mixtures import MixtureName, Written, check_components, mixture_classes
from dgray.config.model import (
    Coordinate,
    Factor,
    Model,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from dgray.config.parts import Arguments, ImportPath, inline_spec, section_union


class BaseSection(Model):
    """Base, that is, the pretrained denoiser to be corrected."""

    kind: str
    num_generated: NonNegativeInt = Field(
        10_000, description="generated training samples of each replicate (for cross-entropy)"
    )

    @property
    def spec(self) -> BaseSpec:
        """Specification of the part in the catalogue."""
        return BASES[self.kind]


class WrongMixture(BaseSection):
    """Gaussian mixture with known errors: exact score, exact log-ratio to the data."""

    kind: Literal["wrong_mixture"]
    of: MixtureName | None = Field(
        None, description="mixture to be distorted; null: that of the data"
    )
    mean_shift: tuple[Coordinate, ...] | Coordinate = Field(
        0.0, description="shift of every mean (a number, or one per dimension)"
    )
    mean_scale: Factor = Field(1.0, description="factor on every mean")
    std_scale: Factor = Field(
        1.0,
        description="factor on every standard deviation, in all directions: its square is one on "
        "covariances",
    )
    correlation_scale: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        exclude_if=lambda scale: scale == 1,
        description="factor on every covariance between two coordinates; 0: independent "
        "coordinates of the same variances",
    )
    weight_slope: Annotated[float, Field(gt=-1, lt=1)] = Field(
        0.0, description="weights times 1 + slope u, u from -1 (first component) to 1 (last)"
    )
    components: Written | None = Field(
        None,
        description="the whole mixture written out, in place of the fields above, as in data",
    )
    conditional: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="conditions the base on the class: those of the data, or of components",
    )

    @model_validator(mode="after")
    def _one_definition(self) -> Self:
        check_components(self.components)
        errors = (
            "of",
            "mean_shift",
            "mean_scale",
            "std_scale",
            "correlation_scale",
            "weight_slope",
        )
        fields = type(self).model_fields
        changed = [name for name in errors if getattr(self, name) != fields[name].default]
        if self.components is not None and changed:
            raise ValueError(f"components replaces {', '.join(changed)}; give one or the other")
        return self

    @property
    def own_classes(self) -> int | None:
        """Number of classes of a mixture of its own; None: it is that of the data."""
        if self.components is None and self.of is None:
            return None
        return mixture_classes(self.components)


class NetworkBase(BaseSection):
    """Base that is a network, whose samples are drawn before the trials."""

    generation_steps: PositiveInt = Field(18, description="Heun steps that draw its samples")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the convolutions and matrix products of the network; bfloat16 is faster "
        "on GPUs, with an error of up to 1 % of the denoised samples",
    )


class TrainedBase(NetworkBase):
    """EDM-preconditioned denoiser fitted by dgray to samples of the data.

    The defaults suit points. On one core, ``width: 256, steps: 3000, batch_size: 128,
    learning_rate: 2e-3`` learns the digits in half a minute, and ``width: 16, depth: 1,
    steps: 1200, batch_size: 64, learning_rate: 2e-3`` glyphs of 16 pixels in eight
    minutes.
    """

    kind: Literal["trained"]
    network: NetworkName | None = Field(
        None,
        description="multilayer perceptron, or DDPM++ U-Net (square images); null: mlp for points "
        "and for images of at most 64 values, otherwise unet",
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
        description="unet: self-attention at 16 x 16 pixels, as in EDM; the coarsest level always "
        "has it",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of hidden activations dropped in training"
    )
    conditional: bool = Field(
        False,
        description="conditions the denoiser on the class; a tenth of the training samples come "
        "without their class",
    )
    num_real: PositiveInt = Field(
        2000, description="data samples that it is fitted to, drawn independently"
    )
    steps: PositiveInt = Field(2000, description="optimiser steps")
    batch_size: PositiveInt = Field(256, description="samples per step")
    learning_rate: PositiveFloat = Field(1e-3, description="peak learning rate of Adam")
    learning_rate_decay: Literal["constant", "cosine"] = Field(
        "cosine",
        description="schedule of the learning rate; cosine: to zero over the whole training",
    )
    warmup: NonNegativeInt = Field(
        100, description="first steps, over which the learning rate rises linearly"
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999,
        description="decay per step of the weight average that is used; its half-life is at most "
        "5 % of the steps so far (Karras et al. 2022); 0: the last weights",
    )
    generation_steps: PositiveInt = Field(32, description="Heun steps that draw its samples")

    @model_validator(mode="after")
    def _attention_of_unet(self) -> Self:
        if self.attention and self.network and not NETWORKS[self.network].is_convolutional:
            raise ValueError(
                f"attention is a part of network: unet, but network is {self.network}; "
                "set attention: false"
            )
        return self


class EdmBase(NetworkBase):
    """Network of Karras et al. 2022: published pickle, or the output of dgray.checkpoint."""

    kind: Literal["edm"]
    network: str = Field(description="file, https address, or short name of a published network")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="SHA-256 of the file; null: recorded at first use, then checked"
    )


class DiffusersBase(NetworkBase):
    """UNet2DModel of the library diffusers with its scheduler (extra ``diffusers``)."""

    kind: Literal["diffusers"]
    path: str = Field(description="directory of the model, readable by workers")


class RegisteredBase(NetworkBase):
    """Base registered by another package."""

    arguments: Arguments = Field({}, description="keyword arguments of its factory")


class CustomBase(NetworkBase):
    """Base built by a user-defined function."""

    kind: Literal["custom"]
    factory: ImportPath = Field(description="module:function that builds it")
    arguments: Arguments = Field({}, description="keyword arguments of the function")

    @property
    def spec(self) -> BaseSpec:
        """Specification of the part in the catalogue."""
        return inline_spec(BaseSpec, self.factory.rpartition(":")[2], self.factory)


if TYPE_CHECKING:
    Base = BaseSection
else:
    Base: Any = section_union(BASES, lambda spec: RegisteredBase, CustomBase)
