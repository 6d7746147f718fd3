"""A network as data: the arguments of its constructors, in EDM's words, checked and buildable.

The JSON form is {"preconditioning": "EDMPrecond", "init_kwargs": {"model_type": "SongUNet", ...}},
which is what a published pickle holds. Knows torch; not files.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from dgray.base.networks.preconditioning import (
    EDMPrecond,
    Preconditioned,
    RawNetwork,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
)
from dgray.base.networks.unets.dhariwal import DhariwalUNet
from dgray.base.networks.unets.song import SongUNet
from dgray.errors import ArchitectureError

PRECONDITIONINGS: Mapping[str, type[Preconditioned]] = MappingProxyType(
    {
        "EDMPrecond": EDMPrecond,
        "VPPrecond": VPPrecond,
        "VEPrecond": VEPrecond,
        "iDDPMPrecond": iDDPMPrecond,
    }
)
MODELS: Mapping[str, type[RawNetwork]] = MappingProxyType(
    {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}
)
# What EDM's classes take where the argument is missing.
DEFAULT_MODEL = {
    "EDMPrecond": "DhariwalUNet",
    "VPPrecond": "SongUNet",
    "VEPrecond": "SongUNet",
    "iDDPMPrecond": "DhariwalUNet",
}
SHARED = {
    "model_type": "str",
    "img_resolution": "int",
    "img_channels": "int",
    "label_dim": "int",
    "use_fp16": "bool",
}
NUMBERS = ("int", "float", "Sequence[int]", "Sequence[float]")
# Far above every network there is; a file must not make its reader build for hours.
LARGEST = 100_000
LONGEST = 16
_OWN = frozenset({"self", "model", "label_dim", "use_fp16", "in_channels", "out_channels"})
Value = str | int | float | bool | tuple[int | float, ...]


@dataclass(frozen=True)
class EdmArchitecture:
    """A network, described.

    Attributes:
        preconditioning: a name in ``PRECONDITIONINGS``.
        init_kwargs: arguments of the preconditioning and of the raw network, by EDM's names;
            lists become tuples. img_resolution and img_channels must be there.

    Raises:
        ArchitectureError: a name, an argument or a value that is none of theirs.
    """

    preconditioning: str
    init_kwargs: Mapping[str, Value]

    def __post_init__(self) -> None:
        if self.preconditioning not in PRECONDITIONINGS:
            known = ", ".join(PRECONDITIONINGS)
            raise ArchitectureError(
                f"preconditioning must be one of {known}, not {self.preconditioning!r}"
            )
        given = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in dict(self.init_kwargs).items()
        }
        given.setdefault("model_type", DEFAULT_MODEL[self.preconditioning])
        object.__setattr__(self, "init_kwargs", MappingProxyType(given))
        if self.model_type not in MODELS:
            raise ArchitectureError(
                f"model_type must be one of {', '.join(MODELS)}, not {self.model_type!r}"
            )
        _check_values(given, SHARED | self._of_preconditioning() | self._of_model())

    @property
    def model_type(self) -> str:
        """The class of the raw network."""
        return str(self.init_kwargs["model_type"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        resolution = self._whole("img_resolution")
        return self._whole("img_channels"), resolution, resolution

    @property
    def num_classes(self) -> int:
        """Number of classes; 0: unconditional."""
        return self._whole("label_dim")

    @property
    def num_blocks(self) -> int:
        """A lower bound of the number of its residual blocks."""
        defaults = inspect.signature(MODELS[self.model_type].__init__).parameters
        per_level, levels = (
            self.init_kwargs.get(name, defaults[name].default)
            for name in ("num_blocks", "channel_mult")
        )
        return int(per_level) * len(levels)

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return {
            "preconditioning": self.preconditioning,
            "init_kwargs": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.init_kwargs.items()
            },
        }

    @staticmethod
    def from_json(record: object) -> EdmArchitecture:
        """From what ``to_json`` gave; other entries of the record are left alone.

        Raises:
            ArchitectureError: if it is none.
        """
        if not isinstance(record, Mapping):
            raise ArchitectureError(f"a network must be a JSON object, not {record!r}"[:200])
        missing = {"preconditioning", "init_kwargs"} - record.keys()
        if missing or not isinstance(record["init_kwargs"], Mapping):
            raise ArchitectureError(
                "a network must have preconditioning and init_kwargs, an object; "
                f"found {', '.join(map(str, record))}"
            )
        return EdmArchitecture(str(record["preconditioning"]), record["init_kwargs"])

    def build(self) -> Preconditioned:
        """The module, with initial weights, on torch's default device and in training mode."""
        channels, resolution, _ = self.shape
        # iDDPM's raw network predicts a variance beside every mean
        outputs = 2 * channels if self.preconditioning == "iDDPMPrecond" else channels
        arguments: dict[str, Any] = dict(self.init_kwargs)
        model = MODELS[self.model_type](
            img_resolution=resolution,
            in_channels=channels,
            out_channels=outputs,
            label_dim=self.num_classes,
            **{name: arguments[name] for name in self._of_model() if name in arguments},
        )
        return PRECONDITIONINGS[self.preconditioning](
            model,
            label_dim=self.num_classes,
            use_fp16=bool(arguments.get("use_fp16", False)),
            **{name: arguments[name] for name in self._of_preconditioning() if name in arguments},
        )

    def _whole(self, name: str) -> int:
        value = self.init_kwargs.get(name, 0)
        assert isinstance(value, int)  # checked at the start
        return value

    def _of_preconditioning(self) -> dict[str, str]:
        return _parameters(PRECONDITIONINGS[self.preconditioning])

    def _of_model(self) -> dict[str, str]:
        return _parameters(MODELS[self.model_type])


def _parameters(of: type[nn.Module]) -> dict[str, str]:
    """The arguments of a constructor that are not shared, and their types."""
    return {
        name: str(parameter.annotation)
        for name, parameter in inspect.signature(of.__init__).parameters.items()
        if name not in _OWN and name not in SHARED
    }


def _check_values(given: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    unknown = given.keys() - kinds.keys()
    if unknown:
        raise ArchitectureError(
            f"no argument of this network is called {', '.join(sorted(map(str, unknown)))}; "
            f"it has {', '.join(sorted(kinds))}"
        )
    for name in ("img_resolution", "img_channels"):
        if name not in given:
            raise ArchitectureError(f"init_kwargs must have {name}")
    for name, value in given.items():
        kind = kinds[name]
        is_list = kind.startswith("Sequence")
        entries = value if is_list and isinstance(value, tuple) else (value,)
        fits = isinstance(value, tuple) == is_list and 0 < len(entries) <= LONGEST
        if not fits or not all(_fits(entry, kind) for entry in entries):
            rule = _words(kind)
            raise ArchitectureError(f"{name} must be {rule}, not {value!r}"[:300])


def _fits(value: object, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind not in NUMBERS:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if kind in ("int", "Sequence[int]"):
        return isinstance(value, int) and 0 <= value <= LARGEST
    return value >= 0


def _words(kind: str) -> str:
    plain = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    kind, is_list = kind.removeprefix("Sequence[").removesuffix("]"), kind.startswith("Sequence")
    words = plain.get(kind, "a name") + (f" up to {LARGEST}" if kind == "int" else "")
    return f"a list of 1 to {LONGEST} values, each {words}" if is_list else words
