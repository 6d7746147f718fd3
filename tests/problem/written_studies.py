"""Studies of image files that tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from dgray.config.reading.load import load_study
from dgray.plan.plan import Plan, make_plan
from dgray.problem.inputs import Inspection, inspect

Values = dict[str, Any]
FEATURES: Values = {"metrics": ["fd"], "num_samples": 100}  # of a network that needs labels


def write_images(folder: Path, *, size: tuple[int, int] = (8, 8), count: int = 40) -> Path:
    for index in range(count):
        path = folder / "pets" / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), index, dtype=np.uint8)).save(path)
    return folder / "pets"


def write_study(folder: Path, **sections: Values) -> Path:
    study: Values = {
        "name": "study",
        "data": {"kind": "folder", "path": str(folder / "pets")},
        "base": {"kind": "trained", "num_real": 10},
        "evaluate": {},
    }
    study["data"] |= {"num_real": 10, "num_validation": 8, "num_held_out": 12}
    for name, values in sections.items():
        is_other = isinstance(values, dict) and "kind" in values
        study[name] = values if is_other else study.get(name, {}) | values
    path = folder / "study.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(study, file)
    return path


def plan_of(folder: Path, **sections: Values) -> Plan:
    return make_plan(load_study(write_study(folder, **sections)))


def inspected(folder: Path, **sections: Values) -> Inspection:
    return inspect(plan_of(folder, **sections))
