"""Small networks, and networks that EDM's own code was run on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgray.base.networks.edm_architecture import EdmArchitecture
from dgray.base.networks.preconditioning import Preconditioned

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Golden:
    """A network with random weights, and what EDM's own code computed with it."""

    record: dict[str, Any]
    state: dict[str, Tensor]
    x: Tensor
    sigma: Tensor
    one_hot: Tensor | None
    denoised: Tensor
    gradient: Tensor  # of sum(D^2) by x

    @property
    def architecture(self) -> EdmArchitecture:
        return EdmArchitecture.from_json(self.record)

    @property
    def module(self) -> Preconditioned:
        module = self.architecture.build()
        module.load_state_dict(self.state)
        return module.eval()


TINY: dict[str, Any] = {
    "img_resolution": 8,
    "img_channels": 2,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [8],
    "dropout": 0.1,
}


def tiny(
    model_type: str = "SongUNet", preconditioning: str = "EDMPrecond", **options: Any
) -> Preconditioned:
    """A small network whose every weight matters, in evaluation mode."""
    torch.manual_seed(0)
    arguments = TINY | {"model_type": model_type} | options
    module = EdmArchitecture(preconditioning, arguments).build().eval()
    with torch.no_grad():  # no layer starts near zero
        for weight in module.parameters():
            weight.copy_(torch.randn_like(weight) / max(weight[0].numel(), 4) ** 0.5)
    return module


def read_golden(name: str) -> Golden:
    record = json.loads((FIXTURES / f"{name}.json").read_text())
    with np.load(FIXTURES / f"{name}.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    return Golden(
        record,
        {n.removeprefix("state/"): v for n, v in values.items() if n.startswith("state/")},
        values["io/x"],
        values["io/sigma"],
        values.get("io/labels"),
        values["io/D"],
        values["io/grad_sumsqD"],
    )
