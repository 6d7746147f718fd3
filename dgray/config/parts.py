"""Parts of a study: of dgray, registered by another package, or named by an import path.

An objective, correction, metric or sampler is a ``Part``: a name, or a mapping with ``name`` or
``factory`` and ``arguments``. Data, bases and discriminators are sections whose ``kind`` is the
name.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    create_model,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from dgray.catalogue import (
    METRICS,
    OBJECTIVES,
    SAMPLERS,
    MetricSpec,
    ObjectiveSpec,
    Registry,
    SamplerSpec,
    Spec,
    load_object,
)
from dgray.config.model import Model

MAX_NAME = 64  # characters of the name of a part, which is in names of files
_NAME = re.compile(rf"[A-Za-z_]\w{{0,{MAX_NAME - 1}}}", re.ASCII)
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=255)]
Arguments = dict[str, JsonValue]
CUSTOM = "custom"  # kind of a base or discriminator that is named by its import path
BASE = "base"  # the objective of the trial that has no discriminator
AnySpec = TypeVar("AnySpec", bound=Spec)


def inline_spec(spec_type: type[AnySpec], name: str, factory: str, **properties: Any) -> AnySpec:
    """Return the specification of a part that is named by its import path."""
    return spec_type(name=name, title=name.replace("_", " "), factory=factory, **properties)


class Part(Model):
    """Objective, metric or sampler, by registered name or by the import path of its factory."""

    registry: ClassVar[Registry[Any]]
    reserved: ClassVar[tuple[str, ...]] = ()

    factory: ImportPath | None = Field(
        None, description="module:function that builds it; null: name is a registered one"
    )
    name: Annotated[str, Field(validate_default=True)] = Field(
        "", description="registered name; with factory: name in rows; empty: that of the function"
    )
    arguments: Arguments = Field({}, description="keyword arguments of the factory")

    @field_validator("name", mode="before")
    @classmethod
    def _valid_name(cls, name: object, info: ValidationInfo) -> object:
        if "factory" not in info.data:  # reported already
            return str(name)
        factory, names = info.data["factory"], cls.registry.names
        if factory is None:
            if name == "":
                raise ValueError("name or factory must be given, but got neither")
            if name not in names:
                expected = ", ".join(map(repr, names))
                raise PydanticCustomError("literal_error", "unknown name", {"expected": expected})
            return name
        name = name or factory.rpartition(":")[2]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"name must be at most {MAX_NAME} letters, digits and _, but got {name!r}"
            )
        if name in names or name in cls.reserved:
            raise ValueError(
                f"name must differ from those of dgray.{cls.registry.group}, but {name!r} is one "
                f"of them; add another one, like name: my_{name}"
            )
        return name

    @model_serializer(mode="wrap")
    def _as_written(self, serialise: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        """Return the bare name where the study file can have it."""
        if self.factory is None and not self.arguments:
            return self.name
        values: dict[str, Any] = serialise(self)
        return {field: value for field, value in values.items() if value not in (None, {})}

    def __hash__(self) -> int:
        return hash((self.factory, self.name, json.dumps(self.arguments, sort_keys=True)))

    def _resolved(self, spec_type: type[AnySpec], **properties: Any) -> AnySpec:
        if self.factory is None:
            spec: AnySpec = self.registry[self.name]
            return spec
        return inline_spec(spec_type, self.name, self.factory, **properties)


class ObjectivePart(Part):
    """Training objective."""

    registry: ClassVar[Registry[Any]] = OBJECTIVES
    reserved: ClassVar[tuple[str, ...]] = (BASE,)

    @property
    def spec(self) -> ObjectiveSpec:
        """Its specification; an inline objective is trained and needs generated samples."""
        return self._resolved(ObjectiveSpec)


class MetricPart(Part):
    """Metric."""

    registry: ClassVar[Registry[Any]] = METRICS
    reserved: ClassVar[tuple[str, ...]] = tuple(
        column.name for metric in METRICS for column in metric.columns
    )

    @property
    def spec(self) -> MetricSpec:
        """Its specification; an inline metric compares samples with held-out data."""
        return self._resolved(MetricSpec, doc=f"metric {self.factory}")


class SamplerPart(Part):
    """Sampler."""

    registry: ClassVar[Registry[Any]] = SAMPLERS

    @property
    def spec(self) -> SamplerSpec:
        """Its specification; an inline sampler is stochastic and has one stage."""
        return self._resolved(SamplerSpec)


def with_name(value: object) -> object:
    """Return a bare name as the fields of a part."""
    return value if isinstance(value, dict | Part) else {"name": value}


Objective = Annotated[ObjectivePart, BeforeValidator(with_name)]
Metric = Annotated[MetricPart, BeforeValidator(with_name)]
Sampler = Annotated[SamplerPart, BeforeValidator(with_name)]


def unique_names(field: str, parts: Iterable[Part]) -> None:
    """Check that no two different parts have the same name.

    Raises:
        ValueError: if two have.
    """
    by_name: dict[str, Part] = {}
    for part in parts:
        if by_name.setdefault(part.name, part) != part:
            raise ValueError(
                f"{field} must have different names, but two are named {part.name!r}; give one of "
                "them another name, like {name: other, factory: ...}"
            )


def section_union(
    registry: Registry[Any],
    registered: Callable[[Any], type[Model]],
    *more: type[Model],
) -> Any:
    """Return the type of a section that is one of the models of a registry, by its ``kind``.

    Args:
        registry: parts that the section may be.
        registered: returns the model, with ``arguments``, of a part without settings of its own.
        more: models of parts that are named by their import path.
    """
    models: list[Any] = list(more)
    for index, spec in enumerate(registry):
        if spec.settings is not None:
            model = load_object(spec.settings)
        else:
            kind: Any = (Literal[spec.name], ...)
            model = create_model(spec.name, __base__=registered(spec), kind=kind)
        models.insert(index, model)
    return Annotated[functools.reduce(operator.or_, models), Field(discriminator="kind")]


def option_arguments(section: Model, options: Sequence[str]) -> dict[str, Any]:
    """Return some fields of a section as arguments; a subsection gives its own fields."""
    arguments: dict[str, Any] = {}
    for name in options:
        value = getattr(section, name)
        arguments |= value.model_dump() if isinstance(value, Model) else {name: value}
    return arguments


def section_arguments(section: Model, common: type[Model]) -> dict[str, Any]:
    """Return the arguments of the factory of a section.

    They are the fields that the section has in addition to those of ``common``, which describe
    how the part is used; ``arguments`` of a user's part are given one by one.
    """
    values = section.model_dump(exclude={*common.model_fields, "factory"})
    arguments: dict[str, Any] = values.pop("arguments", {})
    return values | arguments
