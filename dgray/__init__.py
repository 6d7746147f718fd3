"""Hyperparameter studies of discriminator guidance for diffusion models, distributed with Ray."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgray.api.model import Model
    from dgray.api.run import Run, open_run
    from dgray.api.study import Study, load_study

__version__ = "0.1.0"
__all__ = ["Model", "Run", "Study", "load_study", "open_run"]

# Imported on first use, so that ``import dgray`` costs nothing.
_MODULES = {
    "Model": "dgray.api.model",
    "Run": "dgray.api.run",
    "Study": "dgray.api.study",
    "load_study": "dgray.api.study",
    "open_run": "dgray.api.run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dgray' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
