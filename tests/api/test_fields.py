"""Values of Python in a study: what they become, and what is refused."""

from __future__ import annotations

import array
import enum
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dgray
from dgray.errors import PartError, StudyError

STUDY: dict[str, Any] = {
    "name": "fields",
    "data": {"kind": "mixture", "name": "ring8"},
    "base": {"kind": "wrong_mixture"},
    "fit": {"objective": "kl"},
}


class Objective(str, enum.Enum):  # noqa: UP042  # str() of a StrEnum is its value already
    KL = "kl"


class Seed(enum.IntEnum):
    FIRST = 3


def hinge(outputs: Any) -> Any:
    return outputs.real_logit


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    return x


def changed(path: str, value: object) -> dict[str, Any]:
    fields: dict[str, Any] = {name: v if name == "name" else {**v} for name, v in STUDY.items()}
    *sections, name = path.split(".")
    section = fields
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = value
    return fields


@pytest.mark.parametrize(
    ("path", "value", "plain"),
    [
        ("fit.learning_rate", np.float64(0.002), 0.002),
        ("fit.learning_rate", np.array([0.001, 0.002]), [0.001, 0.002]),
        ("fit.learning_rate", (np.float32(0.5), 0.25), [0.5, 0.25]),
        ("discriminator.width", np.int64(8), 8),
        ("discriminator.width", range(4, 7), [4, 5, 6]),
        ("seed", torch.tensor(4), 4),
        ("fit.learning_rate", array.array("d", [0.5, 0.25]), [0.5, 0.25]),
        ("seed", Seed.FIRST, 3),
        ("evaluate.guidance_weight", torch.linspace(0.5, 1.5, 3), [0.5, 1.0, 1.5]),
        ("fit.objective", Objective.KL, "kl"),
        ("name", np.str_("other"), "other"),
    ],
)
def test_a_value_of_python_is_that_of_a_study_file(
    path: str, value: object, plain: object
) -> None:
    expected = dgray.load_study(changed(path, plain))
    assert dgray.load_study(changed(path, value)).config == expected.config
    of_texts = dgray.load_study(STUDY, [f"{path}={json.dumps(plain)}"])
    assert dgray.load_study(STUDY, {path: value}).config == of_texts.config


def test_a_path_is_its_text() -> None:
    fields = {**STUDY, "data": {"kind": "digits"}, "base": {"kind": "edm", "network": Path("a/b")}}
    assert dgray.load_study(fields).config["base"]["network"] == "a/b"
    study = dgray.load_study(fields, {"base.network": Path("c")})
    assert study.config["base"]["network"] == "c"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("fit.epohcs", 3, "fit.epohcs: unknown field; did you mean 'epochs'?"),
        ("fit.epochs", -1, "fit.epochs: must be > 0, but got -1"),
        ("fit.learning_rate", {0.1}, "fit.learning_rate: must be text, a number, .* type set"),
        ("fit.epochs", [3, 1j], r"fit.epochs\[1\]: must be text, a number, .* type complex"),
        ("name", b"x", "name: must be text, a number, .* type bytes"),
        ("fit.learning_rate", np.zeros((200, 200)), ".* of at most 32 levels and 20,000 values"),
        ("fit", {3: 1}, "fit: field names are text, but got '3'"),
    ],
)
def test_a_refused_value_is_named_by_its_field_and_has_no_place(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(StudyError, match=f"^{message}"):
        dgray.load_study(changed(path, value))


def test_a_list_that_contains_itself_is_refused() -> None:
    values: list[Any] = []
    values.append(values)
    with pytest.raises(StudyError, match="at most 32 levels"):
        dgray.load_study(changed("fit.learning_rate", values))


def test_the_configuration_of_a_study_cannot_be_changed() -> None:
    study = dgray.load_study(STUDY)
    study.config["seed"] = 7  # type: ignore[index]
    study.config["fit"]["epochs"] = 9
    assert study.config == dgray.load_study(STUDY).config


@pytest.mark.parametrize("value", [math.inf, 1e-5, "it's a: #b\nnew", "null", "1e-2", None])
def test_an_override_has_the_value_of_python(value: object) -> None:
    path = "description" if isinstance(value, str) else "evaluate.churn.S_max"
    path = "evaluate.interval_high" if value is None else path
    try:
        text = str(dgray.load_study(changed(path, value)).config)
    except StudyError as error:
        text = str(error)
    try:
        other = str(dgray.load_study(STUDY, {path: value}).config)
    except StudyError as error:
        other = str(error).partition(": ")[2]
    assert other == text


def test_an_object_overrides_a_whole_section() -> None:
    with pytest.raises(PartError, match=r"base\.object: an object replaces its whole section"):
        dgray.load_study(STUDY, {"base.object": dgray.part(denoise, version=1)})


def test_an_override_may_be_a_python_object() -> None:
    objects = {"fit.objective": [hinge, "kl"], "base": denoise, "evaluate.metrics": ["path_kl"]}
    study = dgray.load_study(STUDY, objects)
    whole: dict[str, Any] = {**STUDY, "base": denoise, "evaluate": {"metrics": ["path_kl"]}}
    whole["fit"] = {"objective": [hinge, "kl"]}
    assert study.config == dgray.load_study(whole).config
    with pytest.raises(StudyError, match=r"^fit\.epochs: must be text, a number, .* type set"):
        dgray.load_study(STUDY, {"fit.epochs": {3}})
