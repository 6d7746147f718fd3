"""Python objects as parts of a study: each becomes a name and a version in its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgray.catalogue.objects import ObjectPart, part, register
from dgray.config.parts import CUSTOM
from dgray.errors import PartError

if TYPE_CHECKING:
    import torch

SECTIONS = ("data", "base", "discriminator")
PARTS = (  # section, field, role
    ("correction", "kind", "correction"),
    ("fit", "objective", "objective"),
    ("evaluate", "metrics", "metric"),
    ("evaluate", "sampler", "sampler"),
)
OBJECT, FACTORY = "object", "factory"


def without_objects(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a study in which every Python object is an import path.

    Args:
        study: fields; data, base, discriminator, an objective, correction, metric or sampler may
            be an object, or a mapping with ``object`` (the part itself) or ``factory`` (a function
            that builds it).

    Raises:
        PartError: an object has no identity, or cannot be that part.
    """
    fields = {name: dict(v) if isinstance(v, Mapping) else v for name, v in study.items()}
    for role in SECTIONS:
        if role in fields:
            fields[role] = _section(role, fields[role])
    for section, field, role in PARTS:
        values = fields.get(section)
        if isinstance(values, dict) and field in values:
            values[field] = _register_objects(role, values[field])
    return fields


def _register_objects(role: str, value: Any) -> Any:
    """Register an objective, correction, metric or sampler, or a list of them."""
    if isinstance(value, list | tuple):
        return [_register_objects(role, entry) for entry in value]
    object_part, is_object, other_fields = _split_object(value)
    if object_part is None:
        return value
    part_value = object_part.value
    target = _Constant(part_value) if role == "objective" and is_object else part_value
    if not callable(part_value):
        raise PartError(f"a {role} must be a function, but got {type(part_value).__name__}")
    factory = register(object_part, role, target)
    return {"name": object_part.name, **other_fields, FACTORY: factory}


def _section(role: str, value: Any) -> Any:
    """Return the section of data, base or discriminator."""
    object_part, is_object, other_fields = _split_object(value)
    if object_part is None:
        return value
    target = _TARGETS[role](object_part, is_object)
    kind = _kind_of_data(object_part, is_object) if role == "data" else CUSTOM
    fields = {"kind": kind, **other_fields} if kind is not None else other_fields
    return {**fields, FACTORY: register(object_part, role, target)}


def _split_object(value: Any) -> tuple[ObjectPart | None, bool, dict[str, Any]]:
    """Return the object in a value, whether it is the part itself, and the other fields."""
    if not isinstance(value, Mapping):
        is_plain = value is None or isinstance(value, str | int | float)
        return (None, False, {}) if is_plain else (_identified(value), True, {})
    other_fields = dict(value)
    for field in (OBJECT, FACTORY):
        if field in other_fields and not isinstance(other_fields[field], str):
            return _identified(other_fields.pop(field)), field == OBJECT, other_fields
    return None, False, {}


def _identified(value: Any) -> ObjectPart:
    return value if isinstance(value, ObjectPart) else part(value)


def _data(object_part: ObjectPart, is_object: bool) -> Any:
    if not is_object:
        return object_part.value
    from dgray.data.images import ImageSet

    if (pixels := _pixels(object_part.value)) is None or isinstance(object_part.value, ImageSet):
        return _Constant(object_part.value)
    import torch

    return _Constant(ImageSet(object_part.name, torch.as_tensor(pixels)))


def _pixels(value: Any) -> Any:
    """Return the images (N, C, H, W) of an object; None if it is no set of images."""
    pixels = getattr(value, "pixels", value)
    return pixels if getattr(pixels, "ndim", 0) == 4 else None


def _kind_of_data(object_part: ObjectPart, is_object: bool) -> str | None:
    """Return the kind of the data of an object; a factory needs ``kind`` beside it."""
    if not is_object:
        return None
    return "points" if _pixels(object_part.value) is None else "images"


def _base(object_part: ObjectPart, is_object: bool) -> Any:
    return _Base(object_part.value) if is_object else object_part.value


def _discriminator(object_part: ObjectPart, is_object: bool) -> Any:
    from torch.nn import Module

    if isinstance(object_part.value, Module):
        raise PartError(
            "a discriminator must be a function (shape, sigma_data, num_classes) that builds a "
            "module, since every replicate has its own weights, but got a module"
        )
    return object_part.value


_TARGETS = {"data": _data, "base": _base, "discriminator": _discriminator}


@dataclass(frozen=True)
class _Constant:
    """Factory that returns one object."""

    value: Any

    def __call__(self) -> Any:
        return self.value


@dataclass(frozen=True)
class _Base:
    """Factory of a base from a denoiser, which may be any callable (``wrap_denoiser``)."""

    value: Any

    def __call__(self, shape: tuple[int, ...], device: torch.device) -> Any:
        import torch

        from dgray.diffusion.denoiser import Denoiser
        from dgray.guided.user_denoiser import wrap_denoiser

        value = self.value
        if isinstance(value, torch.nn.Module):
            value = value.to(device).eval()
        elif isinstance(value, Denoiser) and hasattr(value, "to"):
            value = value.to(device, torch.float64)  # an exact distribution
        return wrap_denoiser(value, shape)
