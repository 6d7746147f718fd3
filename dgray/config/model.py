"""Base class and field types of the models of the study file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_COUNT = 1_000_000_000  # of any whole number but a seed; more is a mistake, and may overflow
MAX_SEED = 2**63 - 1

PositiveInt = Annotated[int, Field(gt=0, le=MAX_COUNT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


def as_tuple(value: object) -> object:
    """Return ``value`` as a tuple; one that is not a list becomes a tuple of length one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


OneOrMore = BeforeValidator(as_tuple)


class Model(BaseModel):
    """Section of the study file: frozen, strictly typed, without unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, protected_namespaces=()
    )
