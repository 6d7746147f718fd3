"""Gaussian mixtures written out in a study file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dgray.catalogue import DATA
from dgray.config.model import Coordinate, Model, NoiseLevel, NonNegativeInt, PositiveFloat
from dgray.data.summary import counted

MIXTURE_DIMENSIONS = {values["name"]: d for values, (d,) in DATA["mixture"].shapes}
if TYPE_CHECKING:
    MixtureName = str
else:
    MixtureName: Any = Literal[tuple(MIXTURE_DIMENSIONS)]
MIN_STD, MAX_STD = 1e-6, 1e6  # as of NoiseLevel
_SYMMETRY = 1e-9  # of the largest entry of a covariance


class Components(Model):
    """Gaussian mixture written out: K components in d dimensions, isotropic covariances."""

    means: tuple[tuple[Coordinate, ...], ...] = Field(description="K means of d numbers")
    stds: tuple[NoiseLevel, ...] = Field(description="K standard deviations")
    weights: tuple[PositiveFloat, ...] | None = Field(
        None, description="K weights, normalised to sum to 1; null: equal"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sizes = {len(mean) for mean in self.means}
        if not self.means or len(sizes) != 1 or 0 in sizes:
            shown = " and ".join(map(str, sorted(sizes))) or "none"
            raise ValueError(f"all means must have the same dimension >= 1, but got {shown}")
        for name, values in (("stds", self.stds), ("weights", self.weights)):
            if values is not None and len(values) != len(self.means):
                raise ValueError(
                    f"{name} must have one entry per mean, but got {len(values)} for "
                    f"{counted(len(self.means), 'mean')}"
                )
        return self


class Component(Model):
    """One Gaussian of a mixture, with any covariance."""

    mean: tuple[Coordinate, ...] = Field(description="d numbers, d >= 1")
    std: tuple[NoiseLevel, ...] | NoiseLevel | None = Field(
        None, description="standard deviation, or one per dimension; covariance replaces it"
    )
    covariance: tuple[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], ...] | None = (
        Field(None, description="d x d, symmetric and positive definite")
    )
    weight: PositiveFloat = Field(1.0, description="weights are normalised to sum to 1")
    label: NonNegativeInt | None = Field(
        None, description="class of its samples, from 0; of all components or of none"
    )

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        if (self.std is None) == (self.covariance is None):
            raise ValueError("std or covariance must be given, and not both")
        size = len(self.mean)
        if size == 0:
            raise ValueError("mean must have at least one number, but got []")
        if isinstance(self.std, tuple) and len(self.std) != size:
            raise ValueError(
                "std must be one number, or one per dimension, but got "
                f"{counted(len(self.std), 'number')} for {counted(size, 'dimension')}"
            )
        if self.covariance is not None:
            _check_covariance(self.covariance, size)
        return self


def _check_covariance(rows: tuple[tuple[float, ...], ...], size: int) -> None:
    """Check shape, symmetry and eigenvalues.

    Raises:
        ValueError: if it is no covariance matrix of ``size`` dimensions.
    """
    import numpy as np  # only for the studies that need it

    lengths = {len(row) for row in rows}
    if len(rows) != size or lengths != {size}:
        shown = " and ".join(map(str, sorted(lengths))) or "no"
        raise ValueError(
            f"covariance must have {counted(size, 'row')} of {counted(size, 'number')}, as many "
            f"as mean, but got {counted(len(rows), 'row')} of {shown} number{'s'[shown == '1' :]}"
        )
    matrix = np.array(rows)
    if np.abs(matrix - matrix.T).max() > _SYMMETRY * np.abs(matrix).max():
        i, j = np.unravel_index(np.abs(matrix - matrix.T).argmax(), matrix.shape)
        raise ValueError(
            f"covariance must be symmetric, but row {i + 1} has {rows[i][j]:g} and row {j + 1} "
            f"has {rows[j][i]:g} at the mirrored place"
        )
    values = np.linalg.eigvalsh(matrix)
    low, high = float(values[0]), float(values[-1])
    if not (low >= MIN_STD**2 and high <= MAX_STD**2 and math.isfinite(high)):
        end = "" if low > 0 else "; it is not positive definite"
        raise ValueError(
            f"covariance must have eigenvalues from {MIN_STD**2:g} to {MAX_STD**2:g}, but they go "
            f"from {low:g} to {high:g}{end}"
        )


def _form(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "columns"


Written = Annotated[
    Annotated[Components, Tag("columns")] | Annotated[tuple[Component, ...], Tag("list")],
    Discriminator(_form),
]
"""Mixture written out: by columns, or as a list of components."""


def check_components(components: Components | tuple[Component, ...] | None) -> None:
    """Check that the components of a list agree with each other.

    Raises:
        ValueError: if dimensions differ, or classes are not 0, 1, ... of all components.
    """
    if not isinstance(components, tuple):
        return
    if not components:
        raise ValueError("components must have at least one entry, but got []")
    sizes = {len(component.mean) for component in components}
    if len(sizes) > 1:
        dimensions = " and ".join(map(str, sorted(sizes)))
        raise ValueError(f"all means must have the same dimension, but got {dimensions}")
    labels = {component.label for component in components}
    if labels != {None} and labels != set(range(len(labels))):
        shown = sorted(label for label in labels if label is not None)[:10]
        lacking = " and components without one" if None in labels else ""
        raise ValueError(
            f"label must be given for all components or for none, and each class from 0 to the "
            f"highest must have a component, but got {shown}{lacking}"
        )


def mixture_dimension(
    name: str | None, components: Components | tuple[Component, ...] | None
) -> int | None:
    """Return the dimension of a named or written-out mixture; None if neither is given."""
    if isinstance(components, Components):
        return len(components.means[0])
    if components is not None:
        return len(components[0].mean)
    return MIXTURE_DIMENSIONS[name] if name is not None else None


def mixture_classes(components: Components | tuple[Component, ...] | None) -> int:
    """Return the number of classes of a mixture; 0: no classes."""
    labels = [c.label for c in components] if isinstance(components, tuple) else []
    return 1 + max((label for label in labels if label is not None), default=-1)
