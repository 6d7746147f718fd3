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
PARTS = (
    ("correction", "kind"),
    ("fit", "objective"),
    ("evaluate", "metrics"),
    ("evaluate", "sampler"),
)
ROLES = {
    "kind": "correction",
    "objective": "objective",
    "metrics": "metric",
    "sampler": "sampler",
}
OBJECT, FACTORY = "object", "factory"


def without_objects(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a study in which every Python object is an import path.

    Args:
        study: fields; an objective, a metric, a sampler or a section may be an object, or a
            mapping with ``object`` (the part itself) or ``factory`` (a function that builds it).

    Raises:
        PartError: an object has no identity, or cannot be that part.
    """
    fields = {name: dict(v) if isinstance(v, Mapping) else v for name, v in study.items()}
    for role in SECTIONS:
        if role in fields:
            fields[role] = _section(role, fields[role])
    for section, name in PARTS:
        values = fields.get(section)
        if isinstance(values, dict) and name in values:
            values[name] = _registered_each(ROLES[name], values[name])
    return fields


def _registered_each(role: str, value: Any) -> Any:
    """Return an objective, metric or sampler, or a list of them."""
    if isinstance(value, list | tuple):
        return [_registered_each(role, item) for item in value]
    item, is_object, rest = _split(value)
    if item is None:
        return value
    target = _Constant(item.value) if role == "objective" and is_object else item.value
    if not callable(item.value):
        raise PartError(f"a {role} must be a function, but got {type(item.value).__name__}")
    return {"name": item.name, **rest, FACTORY: register(item, role, target)}


def _section(role: str, value: Any) -> Any:
    """Return the section of data, base or discriminator."""
    item, is_object, rest = _split(value)
    if item is None:
        return value
    target = _TARGETS[role](item, is_object)
    kind = _kind_of_data(item, is_object) if role == "data" else CUSTOM
    fields = {"kind": kind, **rest} if kind is not None else rest
    return {**fields, FACTORY: register(item, role, target)}


def _split(value: Any) -> tuple[ObjectPart | None, bool, dict[str, Any]]:
    """Return the object in a value, whether it is the part itself, and the other fields."""
    if not isinstance(value, Mapping):
        is_plain = value is None or isinstance(value, str | int | float)
        return (None, False, {}) if is_plain else (_identified(value), True, {})
    rest = dict(value)
    for field in (OBJECT, FACTORY):
        if field in rest and not isinstance(rest[field], str):
            return _identified(rest.pop(field)), field == OBJECT, rest
    return None, False, {}


def _identified(value: Any) -> ObjectPart:
    return value if isinstance(value, ObjectPart) else part(value)


def _data(item: ObjectPart, is_object: bool) -> Any:
    if not is_object:
        return item.value
    from dgray.data.images import ImageSet

    if (pixels := _pixels(item.value)) is None or isinstance(item.value, ImageSet):
        return _Constant(item.value)
    import torch

    return _Constant(ImageSet(item.name, torch.as_tensor(pixels)))


def _pixels(value: Any) -> Any:
    """Return the images (N, C, H, W) of an object; None if it is no set of images."""
    pixels = getattr(value, "pixels", value)
    return pixels if getattr(pixels, "ndim", 0) == 4 else None


def _kind_of_data(item: ObjectPart, is_object: bool) -> str | None:
    """Return the kind of the data of an object; a factory needs ``kind`` beside it."""
    if not is_object:
        return None
    return "points" if _pixels(item.value) is None else "images"


def _base(item: ObjectPart, is_object: bool) -> Any:
    return _Base(item.value) if is_object else item.value


def _discriminator(item: ObjectPart, is_object: bool) -> Any:
    from torch.nn import Module

    if isinstance(item.value, Module):
        raise PartError(
            "a discriminator must be a function (size, sigma_data, num_classes) that builds a "
            "module, since every replicate has its own weights, but got a module"
        )
    return item.value


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
            value = value.to(device, torch.float64)  # an exact law
        return wrap_denoiser(value, shape)
