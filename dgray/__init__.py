"""Hyperparameter studies of discriminator guidance for diffusion models, distributed with Ray."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgray.api.compare import Comparison, compare
    from dgray.api.model import Model
    from dgray.api.run import Run, open_run
    from dgray.api.study import Study, load_study
    from dgray.base.networks.diffusers_denoiser import denoiser_of as diffusers_denoiser
    from dgray.catalogue.objects import part
    from dgray.guided.diffusers_pipeline import DiscriminatorGuidancePipeline
    from dgray.guided.edm import EdmNetwork
    from dgray.guided.fit import fit_discriminator
    from dgray.guided.loading import load_exported
    from dgray.guided.model import GuidedDenoiser, guide
    from dgray.guided.scores import frechet_distance
    from dgray.guided.user_denoiser import from_epsilon, wrap_denoiser

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "DiscriminatorGuidancePipeline",
    "EdmNetwork",
    "GuidedDenoiser",
    "Model",
    "Run",
    "Study",
    "compare",
    "diffusers_denoiser",
    "fit_discriminator",
    "frechet_distance",
    "from_epsilon",
    "guide",
    "load_exported",
    "load_study",
    "open_run",
    "part",
    "wrap_denoiser",
]

# Imported on first use, so that ``import dgray`` costs nothing.
_OBJECTS = {
    "Comparison": "dgray.api.compare",
    "DiscriminatorGuidancePipeline": "dgray.guided.diffusers_pipeline",
    "EdmNetwork": "dgray.guided.edm",
    "GuidedDenoiser": "dgray.guided.model",
    "Model": "dgray.api.model",
    "Run": "dgray.api.run",
    "Study": "dgray.api.study",
    "compare": "dgray.api.compare",
    "diffusers_denoiser": "dgray.base.networks.diffusers_denoiser:denoiser_of",
    "fit_discriminator": "dgray.guided.fit",
    "frechet_distance": "dgray.guided.scores",
    "from_epsilon": "dgray.guided.user_denoiser",
    "guide": "dgray.guided.model",
    "load_exported": "dgray.guided.loading",
    "load_study": "dgray.api.study",
    "open_run": "dgray.api.run",
    "part": "dgray.catalogue.objects",
    "wrap_denoiser": "dgray.guided.user_denoiser",
}


def __getattr__(name: str) -> Any:
    if name not in _OBJECTS:
        raise AttributeError(f"module 'dgray' has no attribute {name!r}")
    module, _, attribute = _OBJECTS[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_OBJECTS])
