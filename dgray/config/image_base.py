"""Published and users' own image denoisers in the study file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dgray.config.model import Model, NonNegativeInt, PositiveInt


class StoredBase(Model):
    """What bases that are not trained by dgray share."""

    generation_steps: PositiveInt = Field(18, description="Heun steps that draw its samples")
    num_generated: NonNegativeInt = Field(
        10_000, description="generated training samples of each replicate (for cross-entropy)"
    )


class EdmBase(StoredBase):
    """A network of Karras et al. 2022: published pickle, or what dgray.checkpoint made of it."""

    kind: Literal["edm"]
    network: str = Field(
        description="a file, an https address, or a short name of a published one"
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="of that file; null: recorded at first use and checked ever after"
    )


class DiffusersBase(StoredBase):
    """A UNet2DModel of the library diffusers with its scheduler (extra ``diffusers``)."""

    kind: Literal["diffusers"]
    path: str = Field(description="directory of the model, which workers can read")
