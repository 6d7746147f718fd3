"""Description of a corrected model: what its folder stores, as plain values and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dgray.discriminator.discriminator import Discriminator, Trainable
from dgray.discriminator.mlp import Mlp
from dgray.guided.space import SampleSpace


@dataclass(frozen=True, kw_only=True)
class TrainedPart:
    """Discriminator or correction as it is stored.

    Attributes:
        kind: name in the catalogue, or ``custom``.
        arguments: keyword arguments of its factory.
        factory: import path of the factory of a custom one; None if it has none.
        num_classes: classes with which the network of a custom factory is built.
        seed: seed of the study.
        replicate: replicate of the study.
        tensors: trained tensors by name; none of a correction that is made from a discriminator.
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
        data: kind and arguments of the distribution of the data, if the base is a distribution
            derived from it.
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
        discriminator: discriminator of one replicate; None: the correction has none.
        correction: correction of one replicate; None: guidance by the discriminator.
        base: base; None: the user's own denoiser, which is given when the model is loaded.
        guidance: ``weight``, a number or ``{sigmas: [...], weights: [...]}``, and ``interval``.
        sampling: fields of ``dgray.guided.model.Sampling``.
        source: origin of the model.
    """

    space: SampleSpace
    discriminator: TrainedPart | None
    correction: TrainedPart | None = None
    base: BasePart | None = None
    guidance: Mapping[str, Any]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(space: SampleSpace, discriminator: TrainedPart) -> Description:
        """Return the description of a user's denoiser with a discriminator, at weight 1."""
        guidance = {"weight": 1.0, "interval": None}
        return Description(space=space, discriminator=discriminator, guidance=guidance)

    def with_weight(self, weight: float, interval: tuple[float, float] | None) -> Description:
        """Return the description at another constant guidance weight."""
        ends = None if interval is None else list(interval)
        return replace(self, guidance={"weight": float(weight), "interval": ends})


def named_tensors(model: Discriminator | Trainable) -> dict[str, Tensor]:
    """Return the tensors of a discriminator of one replicate, or of an ensemble, by name."""
    named, tensors = getattr(model, "parameters", None), model.tensors  # type: ignore[union-attr]
    if isinstance(named, Mapping):
        names = list(named)
    elif isinstance(model, Mlp):  # all weights, then all biases
        depth = len(tensors) // 2
        names = [f"{kind}.{layer}" for kind in ("weight", "bias") for layer in range(depth)]
    else:
        names = [f"tensor.{index}" for index in range(len(tensors))]
    return dict(zip(names, tensors, strict=True))
