"""Pickles in EDM's format: each layer is a record of source, class name and state."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

SOURCE = "raise SystemExit('the source in a pickle must never run')\n" + "# filler\n" * 3000
MODULE_ATTRIBUTES = frozenset(nn.Module().__dict__)


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> Callable[..., Any]:
    """Return a function that is pickled as ``module.name`` and raises when called."""

    def function(*arguments: Any) -> Any:
        raise AssertionError(f"{module}.{name} was called")

    function.__module__, function.__qualname__, function.__name__ = module, name, name
    parent = ""
    for part in module.split("."):
        parent = f"{parent}.{part}".strip(".")
        if parent not in sys.modules or parent == module:
            fake = types.ModuleType(parent)
            monkeypatch.setitem(sys.modules, parent, fake)
    setattr(sys.modules[module], name, function)
    return function


class Called:
    """Object whose pickle is a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class Layer(nn.Module):
    """Layer whose pickle has the form of EDM's persistent classes."""

    def __init__(self, reconstruct: Callable[..., Any], class_name: str, state: Any) -> None:
        super().__init__()
        self.__dict__.update(reconstruct=reconstruct, class_name=class_name, content=state)

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": self.__dict__["class_name"],
            "state": self.__dict__["content"],
        }
        return self.__dict__["reconstruct"], (meta,), None


def as_records(module: nn.Module, reconstruct: Callable[..., Any], **arguments: Any) -> nn.Module:
    """Return a copy of a network that is pickled in EDM's format.

    Args:
        module: network to copy.
        reconstruct: function that the records call.
        arguments: further state of the outermost record.
    """
    layers = {
        name: None if layer is None else as_records(layer, reconstruct)
        for name, layer in module._modules.items()
    }
    if isinstance(module, nn.ModuleDict):
        return nn.ModuleDict(layers)
    state = {name: value for name, value in module.__dict__.items() if name in MODULE_ATTRIBUTES}
    state |= {"_modules": OrderedDict(layers), "_init_args": (), "_init_kwargs": {}}
    state |= {"skip_scale": np.sqrt(0.5)} | arguments
    return Layer(reconstruct, type(module).__name__, state)


def legacy_blob(tensor: Tensor, location: str = "cpu") -> bytes:
    """Return torch's pickle of the storage of a tensor, with its device renamed."""
    file = io.BytesIO()
    storage = torch.storage.TypedStorage(
        wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True
    )
    torch.save(storage, file, _use_new_zipfile_serialization=False)
    short = b"X\x03\x00\x00\x00cpu"
    assert file.getvalue().count(short) == 1
    named = b"X" + len(location).to_bytes(4, "little") + location.encode()
    return file.getvalue().replace(short, named)


def as_tensor(blob: bytes, *, offset: int, size: Any, stride: Any) -> Called:
    """Return an object pickled as a tensor on a storage, with unchecked size and stride."""
    storage = Called(torch.storage._load_from_bytes, blob)
    rebuild = torch._utils._rebuild_tensor_v2
    return Called(rebuild, storage, offset, size, stride, False, OrderedDict())


def snapshot(network: Any, **others: Any) -> bytes:
    """Return the pickle of a training snapshot."""
    content: Mapping[str, Any] = {"ema": network, **others}
    return pickle.dumps(content)
