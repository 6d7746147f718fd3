"""Base class and field types of the models of the study file."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_COUNT = 1_000_000_000  # of any whole number but a seed; more is a mistake, and may overflow
MAX_SEED = 2**63 - 1

PositiveInt = Annotated[int, Field(gt=0, le=MAX_COUNT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


def between(low: float, high: float) -> AfterValidator:
    """Return a validator: a number that is neither 0 nor infinite has a magnitude in [low, high].

    Other magnitudes overflow in squares or powers, in float32 or float64.
    """

    def check(value: float) -> float:
        if value == 0 or math.isinf(value) or low <= abs(value) <= high:
            return value
        raise ValueError(f"must have a magnitude from {low:g} to {high:g}, but got {value!r}")

    return AfterValidator(check)


PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), between(1e-9, 1e9)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False), between(1e-9, 1e9)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False), between(1e-9, 1e9)]
NoiseLevel = Annotated[float, Field(gt=0, allow_inf_nan=False), between(1e-6, 1e6)]
Coordinate = Annotated[float, Field(allow_inf_nan=False), between(1e-9, 1e6)]
Factor = Annotated[float, Field(gt=0, allow_inf_nan=False), between(1e-3, 1e3)]


def as_tuple(value: object) -> object:
    """Return ``value`` as a tuple; one that is not a list becomes a tuple of length one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


OneOrMore = BeforeValidator(as_tuple)


class Model(BaseModel):
    """Section of the study file: frozen, strictly typed, without unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, protected_namespaces=()
    )
