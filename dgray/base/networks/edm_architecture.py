"""Description of a network by the arguments of EDM's constructors, from which it is built.

The JSON form is {"preconditioning": "EDMPrecond", "init_kwargs": {"model_type": "SongUNet", ...}},
the content of a published pickle.
"""

from __future__ import annotations

import inspect
import math
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
# Defaults of model_type in EDM's classes.
DEFAULT_MODEL = {
    "EDMPrecond": "DhariwalUNet",
    "VPPrecond": "SongUNet",
    "VEPrecond": "SongUNet",
    "iDDPMPrecond": "DhariwalUNet",
}
SHARED_ARGUMENTS = {
    "model_type": "str",
    "img_resolution": "int",
    "img_channels": "int",
    "label_dim": "int",
    "use_fp16": "bool",
}
NUMBER_TYPES = ("int", "float", "Sequence[int]", "Sequence[float]")
# Far above every existing network; a file must not make its reader build one for hours.
MAX_INTEGER = 100_000
MAX_LIST_LENGTH = 16
MAY_BE_EMPTY = ("attn_resolutions",)  # no self-attention
RANGES = {"dropout": (0, 1), "label_dropout": (0, 1), "sigma_data": (1e-6, MAX_INTEGER)}
_CONSTRUCTOR_ARGUMENTS = frozenset(
    {"self", "model", "label_dim", "use_fp16", "in_channels", "out_channels"}
)
Value = str | int | float | bool | tuple[int | float, ...]


@dataclass(frozen=True)
class EdmArchitecture:
    """Description of a network.

    Attributes:
        preconditioning: a name in ``PRECONDITIONINGS``.
        init_kwargs: arguments of the preconditioning and of the raw network, by EDM's names;
            lists become tuples. img_resolution and img_channels are required.

    Raises:
        ArchitectureError: a name or an argument is unknown, or a value invalid.
    """

    preconditioning: str
    init_kwargs: Mapping[str, Value]

    def __post_init__(self) -> None:
        if self.preconditioning not in PRECONDITIONINGS:
            names = ", ".join(PRECONDITIONINGS)
            raise ArchitectureError(
                f"preconditioning must be one of {names}, not {self.preconditioning!r}"
            )
        arguments = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in dict(self.init_kwargs).items()
        }
        arguments.setdefault("model_type", DEFAULT_MODEL[self.preconditioning])
        object.__setattr__(self, "init_kwargs", MappingProxyType(arguments))
        if self.model_type not in MODELS:
            raise ArchitectureError(
                f"model_type must be one of {', '.join(MODELS)}, not {self.model_type!r}"
            )
        _check_values(arguments, SHARED_ARGUMENTS | self._of_preconditioning() | self._of_model())

    @property
    def model_type(self) -> str:
        """Class name of the raw network."""
        return str(self.init_kwargs["model_type"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of an image."""
        resolution = self._whole("img_resolution")
        return self._whole("img_channels"), resolution, resolution

    @property
    def num_classes(self) -> int:
        """Number of classes; 0: unconditional."""
        return self._whole("label_dim")

    @property
    def num_blocks(self) -> int:
        """Lower bound of the number of residual blocks."""
        defaults = inspect.signature(MODELS[self.model_type].__init__).parameters
        per_level, levels = (
            self.init_kwargs.get(name, defaults[name].default)
            for name in ("num_blocks", "channel_mult")
        )
        return int(per_level) * len(levels)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "preconditioning": self.preconditioning,
            "init_kwargs": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.init_kwargs.items()
            },
        }

    @staticmethod
    def from_json(record: object) -> EdmArchitecture:
        """Read the JSON form; other entries of the record are ignored.

        Raises:
            ArchitectureError: the record is not such a description.
        """
        if not isinstance(record, Mapping):
            raise ArchitectureError(
                f"the description of a network must be a JSON object, not {record!r}"[:200]
            )
        missing = {"preconditioning", "init_kwargs"} - record.keys()
        if missing or not isinstance(record["init_kwargs"], Mapping):
            raise ArchitectureError(
                "a description of a network must have preconditioning and init_kwargs, an object, "
                f"but has {', '.join(map(str, record)) or 'nothing'}"
            )
        return EdmArchitecture(str(record["preconditioning"]), record["init_kwargs"])

    def build(self) -> Preconditioned:
        """Build the module with initial weights, on torch's default device, in training mode."""
        channels, resolution, _ = self.shape
        # iDDPM's raw network predicts a variance for every mean
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
        assert isinstance(value, int)  # __post_init__ has checked it
        return value

    def _of_preconditioning(self) -> dict[str, str]:
        return _parameters(PRECONDITIONINGS[self.preconditioning])

    def _of_model(self) -> dict[str, str]:
        return _parameters(MODELS[self.model_type])


def _parameters(module_type: type[nn.Module]) -> dict[str, str]:
    """Return the types of a constructor's arguments that are not shared, by name."""
    return {
        name: str(parameter.annotation)
        for name, parameter in inspect.signature(module_type.__init__).parameters.items()
        if name not in _CONSTRUCTOR_ARGUMENTS and name not in SHARED_ARGUMENTS
    }


def _check_values(arguments: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    unknown = arguments.keys() - kinds.keys()
    if unknown:
        raise ArchitectureError(
            f"this network has no argument {', '.join(sorted(map(str, unknown)))}; it has "
            f"{', '.join(sorted(kinds))}"
        )
    for name in ("img_resolution", "img_channels"):
        if name not in arguments:
            raise ArchitectureError(f"init_kwargs must have {name}")
    for name, (low, high) in RANGES.items():
        if (
            isinstance(value := arguments.get(name, high), int | float)
            and not low <= value <= high
        ):
            raise ArchitectureError(f"{name} must be in [{low:g}, {high:g}], but is {value!r}")
    for name, value in arguments.items():
        kind = kinds[name]
        is_list = kind.startswith("Sequence")
        entries = value if is_list and isinstance(value, tuple) else (value,)
        least = 0 if name in MAY_BE_EMPTY else 1
        fits = isinstance(value, tuple) == is_list and least <= len(entries) <= MAX_LIST_LENGTH
        if not fits or not all(_fits(entry, kind) for entry in entries):
            raise ArchitectureError(f"{name} must be {_describe(kind)}, not {value!r}"[:300])
    if not arguments.get("sigma_min", 0) < arguments.get("sigma_max", math.inf):
        raise ArchitectureError(
            "sigma_min < sigma_max must hold, but they are "
            f"{arguments.get('sigma_min', 0)!r} and {arguments['sigma_max']!r}"
        )


def _fits(value: object, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind not in NUMBER_TYPES:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if kind in ("int", "Sequence[int]"):
        return isinstance(value, int) and 0 <= value <= MAX_INTEGER
    return 0 <= value <= MAX_INTEGER


def _describe(kind: str) -> str:
    plain = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    kind, is_list = kind.removeprefix("Sequence[").removesuffix("]"), kind.startswith("Sequence")
    entry = plain.get(kind, "a name") + (f" up to {MAX_INTEGER}" if kind == "int" else "")
    return f"a list of up to {MAX_LIST_LENGTH} values, each {entry}" if is_list else entry
