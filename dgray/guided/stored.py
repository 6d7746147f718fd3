"""Folder of a corrected model: weights as safetensors, configuration as JSON; no code.

guidance.json               format, origin, noise range, parts, weight and interval, sampling
discriminator.safetensors   trained tensors by name, or
correction.safetensors      those of a correction without a discriminator
base.safetensors            network of the base, if the run stores it
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch

import dgray
from dgray.errors import GuidedModelError, OutputError
from dgray.files import write_atomically
from dgray.guided.description import BasePart, Description, TrainedPart

FORMAT = 1
CONFIGURATION, DISCRIMINATOR, CORRECTION, BASE = (
    "guidance.json",
    "discriminator.safetensors",
    "correction.safetensors",
    "base.safetensors",
)
MAX_CONFIGURATION = 10_000_000  # bytes; a mixture of a study has its components in it


def write_description(out: Path, description: Description) -> Path:
    """Write a corrected model to a new or empty folder, and return the folder.

    Raises:
        GuidedModelError: an argument of a part is infinite.
        OutputError: the folder is not empty, or cannot be written.
    """
    parts = {DISCRIMINATOR: description.discriminator, CORRECTION: description.correction}
    contents = {
        name: safetensors.torch.save(
            {name: t.detach().cpu().contiguous() for name, t in part.tensors.items()}
        )
        for name, part in parts.items()
        if part is not None and part.tensors
    }
    if description.base is not None and description.base.weights is not None:
        contents[BASE] = description.base.weights
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record = _record(description) | {"sha256": digests}
    try:
        contents[CONFIGURATION] = json.dumps(record, indent=2, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise GuidedModelError(
            f"arguments of parts must be finite to be stored, but {error}"
        ) from error
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise OutputError(f"{out} must be a new or empty folder; choose another, or remove it")
        for name, content in contents.items():  # the configuration last: it makes the folder whole
            write_atomically(out / name, partial(_write, content))
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{out}: cannot be written ({reason}); give another folder") from error
    return out


def _record(description: Description) -> dict[str, Any]:
    """Return the configuration as plain values."""
    space, base = description.space, description.base
    parts = {"discriminator": description.discriminator, "correction": description.correction}
    return {
        "format": FORMAT,
        "dgray": dgray.__version__,
        "space": {
            "size": list(space.size),
            "sigmas": list(space.sigmas),
            "sigma_data": space.sigma_data,
            "num_classes": space.num_classes,
        },
        "base": None if base is None else _base_record(base),
        **{name: _part_record(part) for name, part in parts.items() if part is not None},
        "guidance": _bounded(description.guidance),
        "sampling": _bounded(description.sampling),
        "source": dict(description.source),
    }


def _bounded(value: Any) -> Any:
    """Return plain values with the largest number in place of infinity, which JSON lacks.

    As an end of an interval of noise levels it has the same effect.
    """
    if isinstance(value, Mapping):
        return {name: _bounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    return min(value, sys.float_info.max) if isinstance(value, float) else value


def _part_record(part: TrainedPart) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "factory": part.factory,
        "arguments": dict(part.arguments),
        "num_classes": part.num_classes,
        "seed": part.seed,
        "replicate": part.replicate,
    }


def _base_record(base: BasePart) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": base.kind, "arguments": dict(base.arguments)}
    if base.factory is not None:
        record["factory"] = base.factory
    if base.data is not None:
        record["data"] = dict(base.data)
    return record | ({"sha256": dict(base.sha256)} if base.sha256 else {})


def _write(content: bytes, file: Any) -> None:
    file.write(content)
