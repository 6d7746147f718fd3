"""Description of a guided model: what its folder stores, as plain values and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dgray.discriminator.discriminator import Discriminator
from dgray.guided.space import SampleSpace


@dataclass(frozen=True, kw_only=True)
class DiscriminatorPart:
    """Discriminator as it is stored.

    Attributes:
        kind: name in the catalogue, or ``custom``.
        arguments: keyword arguments of its factory.
        factory: import path of the factory of a custom one; None if it has none.
        num_classes: classes with which the network of a custom factory is built.
        seed: seed of the study.
        replicate: replicate of the study.
        tensors: trained tensors by name.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    factory: str | None = None
    num_classes: int = 0
    seed: int
    replicate: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class BasePart:
    """Base as it is stored.

    Attributes:
        kind: name in the catalogue, or ``custom``.
        arguments: keyword arguments of its factory.
        factory: import path of the factory of a custom one.
        data: kind and arguments of the law of the data, if the base is a law derived from it.
        weights: stored network; None if the kind has none.
        sha256: SHA-256 by file of a network that is stored elsewhere.
    """

    kind: str
    arguments: Mapping[str, Any]
    factory: str | None = None
    data: Mapping[str, Any] | None = None
    weights: bytes | None = field(default=None, repr=False)
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Description:
    """Guided model as it is stored.

    Attributes:
        space: space of its samples.
        discriminator: discriminator of one replicate.
        base: base; None: the user's own denoiser, which is given when the model is loaded.
        guidance: ``weight``, a number or ``{sigmas: [...], weights: [...]}``, and ``interval``.
        sampling: fields of ``dgray.guided.model.Sampling``.
        source: origin of the model.
    """

    space: SampleSpace
    discriminator: DiscriminatorPart
    base: BasePart | None = None
    guidance: Mapping[str, Any]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(space: SampleSpace, discriminator: DiscriminatorPart) -> Description:
        """Return the description of a user's denoiser with a discriminator, at weight 1."""
        guidance = {"weight": 1.0, "interval": None}
        return Description(space=space, discriminator=discriminator, guidance=guidance)

    def with_weight(self, weight: float, interval: tuple[float, float] | None) -> Description:
        """Return the description at another constant guidance weight."""
        ends = None if interval is None else list(interval)
        return replace(self, guidance={"weight": float(weight), "interval": ends})


def named_tensors(member: Discriminator) -> dict[str, Tensor]:
    """Return the tensors of a discriminator of one replicate by name, in their order."""
    names: Any = getattr(member, "parameters", None)
    tensors: tuple[Tensor, ...] = member.tensors  # type: ignore[attr-defined]
    if names is None:  # a perceptron: all weights, then all biases
        depth = len(tensors) // 2
        names = [f"{kind}.{layer}" for kind in ("weight", "bias") for layer in range(depth)]
    return dict(zip(names, tensors, strict=True))
