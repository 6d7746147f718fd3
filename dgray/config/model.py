"""What every model of the study file shares: frozen, strict, unknown fields refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


def as_tuple(value: object) -> object:
    """A scalar where a list of settings is expected is a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


OneOrMore = BeforeValidator(as_tuple)


class Model(BaseModel):
    """A part of the study file. Instances are frozen; a typing error in YAML is an error here."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, protected_namespaces=()
    )
