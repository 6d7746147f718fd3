"""Discriminator and correction of an exported model, built from their stored parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from dgray.catalogue import CORRECTIONS, DISCRIMINATORS, Registry, load_object
from dgray.correction.correction import Correction
from dgray.correction.guidance import Guidance
from dgray.discriminator.discriminator import Ensemble, Trainable
from dgray.discriminator.module_ensemble import build_module_ensemble
from dgray.errors import GuidedModelError
from dgray.guided.description import TrainedPart, named_tensors
from dgray.guided.space import SampleSpace, SpaceWithBase
from dgray.problem.discriminator import initial_generators

CUSTOM = "custom"
AnyTrainable = TypeVar("AnyTrainable", bound=Trainable)


@dataclass(frozen=True)
class LoadOptions:
    """Arguments of ``load_exported``."""

    denoiser: Callable[..., Tensor] | None
    discriminator: Callable[..., torch.nn.Module] | None
    trust_code: bool
    device: torch.device

    def factory(self, registry: Registry[Any], part: Mapping[str, Any]) -> Callable[..., Any]:
        """Return the factory of a stored part.

        Raises:
            GuidedModelError: it is the code of another package, which is not trusted.
        """
        kind, path = part["kind"], part.get("factory")
        built_in = {spec.name: spec for spec in registry.built_in}
        if path is None and kind in built_in:
            loaded: Callable[..., Any] = built_in[kind].load()
            return loaded
        if not self.trust_code:
            raise GuidedModelError(
                f"the model names code of another package, {path or kind!r} of "
                f"dgray.{registry.group}; read it, and load the model with trust_code=True"
            )
        try:
            loaded = load_object(path) if path else registry[kind].load()
        except (ImportError, KeyError) as error:
            raise GuidedModelError(f"{path or kind} cannot be imported: {error}") from error
        return loaded


@dataclass(frozen=True)
class LoadedCorrection:
    """Correction of one replicate with its stored parts."""

    correction: Correction
    discriminator_part: TrainedPart | None
    correction_part: TrainedPart | None


def load_correction(
    parts: Mapping[str, Mapping[str, Any] | None],
    tensors: Mapping[str, Tensor],
    space: SpaceWithBase,
    options: LoadOptions,
) -> LoadedCorrection:
    """Build a correction from the records ``discriminator`` and ``correction`` of an export.

    Args:
        parts: both records; None: there is none.
        tensors: trained tensors by name.
        space: space of the samples, and the base.
        options: arguments of ``load_exported``.

    Raises:
        GuidedModelError: a part is damaged, or needs an argument.
    """
    of_discriminator, of_correction = parts["discriminator"], parts["correction"]
    build: Callable[..., Any] = Guidance
    if of_correction is not None:
        build = partial(options.factory(CORRECTIONS, of_correction), **of_correction["arguments"])
    if of_discriminator is None:
        if of_correction is None:
            raise ValueError("it has neither a discriminator nor a correction")
        _check_size(of_correction["arguments"].get("network", {}), space, tensors)
        corrections = _restored(build(space, _generators(of_correction)), tensors, options.device)
        stored = TrainedPart(**of_correction, tensors=_members(corrections))
        return LoadedCorrection(corrections.member(0), None, stored)
    sizes = {**of_discriminator["arguments"], "kind": of_discriminator["kind"]}
    _check_size(sizes, space, tensors)
    ensemble = _restored(
        _discriminators(of_discriminator, space, options), tensors, options.device
    )
    return LoadedCorrection(
        build(ensemble.member(0)),
        TrainedPart(**of_discriminator, tensors=_members(ensemble)),
        None if of_correction is None else TrainedPart(**of_correction),
    )


def _generators(part: Mapping[str, Any]) -> list[torch.Generator]:
    return initial_generators(int(part["seed"]), [int(part["replicate"])])


def _members(ensemble: Trainable) -> dict[str, Tensor]:
    """Return the tensors of the only member of an ensemble by name."""
    return {name: tensor[0] for name, tensor in named_tensors(ensemble).items()}


def _restored(
    ensemble: AnyTrainable, tensors: Mapping[str, Tensor], device: torch.device
) -> AnyTrainable:
    """Return an ensemble of one with the stored tensors, on a device."""
    expected = _members(ensemble)
    ordered = [_fitting(tensors, name, like)[None] for name, like in expected.items()]
    return ensemble.with_tensors([tensor.to(device) for tensor in ordered])


def _check_size(
    network: Mapping[str, Any], space: SampleSpace, tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a built-in network that claims more weights than are stored, before it is built.

    Args:
        network: its kind, width and depth; empty: the size is that of the base.
        space: space of the samples.
        tensors: stored tensors.
    """
    bounds = {spec.name: spec.min_weights for spec in DISCRIMINATORS.built_in}
    bound = bounds.get(network.get("kind", ""))
    if bound is None:
        return
    stored = sum(tensor.numel() for tensor in tensors.values())
    width, depth = (int(network.get(name, 1)) for name in ("width", "depth"))
    if depth > len(tensors) or load_object(bound)(space.dimension, width, depth) > stored:
        raise GuidedModelError(
            f"a network of width {width} and depth {depth} must have more than the {stored} "
            "weights that are stored; export the model again"
        )


def _discriminators(
    part: Mapping[str, Any], space: SpaceWithBase, options: LoadOptions
) -> Ensemble:
    """Return the untrained discriminator as an ensemble of one."""
    generators = _generators(part)
    is_registered = part["kind"] in DISCRIMINATORS
    if options.discriminator is not None:
        factory: Callable[..., Any] = options.discriminator
    elif part["kind"] == CUSTOM and part["factory"] is None:
        raise GuidedModelError(
            "the discriminator of this model is the user's own; load it with "
            "discriminator=the_function_that_builds_it"
        )
    else:
        factory = options.factory(DISCRIMINATORS, part)
        trunk = part["arguments"].get("trunk", "none")
        if trunk not in ("none", "base") and not options.trust_code:
            raise GuidedModelError(
                f"the discriminator has the trunk {trunk!r}, which is code; load the model with "
                "trust_code=True"
            )
    if is_registered and DISCRIMINATORS[part["kind"]].is_ensemble:
        ensemble: Ensemble = factory(space, generators, **part["arguments"])
        return ensemble
    return build_module_ensemble(
        partial(factory, **part["arguments"]),
        generators,
        shape=space.size,
        sigma_data=space.sigma_data,
        num_classes=int(part["num_classes"]),
    )


def _fitting(tensors: Mapping[str, Tensor], name: str, expected: Tensor) -> Tensor:
    """Return a stored tensor, which must have the shape of the network's.

    Raises:
        GuidedModelError: it is missing, or has another shape.
    """
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != expected.shape:
        actual = "missing" if tensor is None else tuple(tensor.shape)
        raise GuidedModelError(
            f"the tensor {name} must have shape {tuple(expected.shape)}, but "
            f"is {actual}; export the model again"
        )
    return tensor
