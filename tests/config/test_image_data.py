"""The image data of a study file: kinds, defaults that fit the data, strictness."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dgray.config.data import Data, DigitsData, ImageData
from dgray.data.published import digits
from dgray.data.published_surveys import GLYPHS
from dgray.data.splits import split

DATA: TypeAdapter[Any] = TypeAdapter(Data)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "digits"},
        {"kind": "cifar10"},
        {"kind": "cifar10", "root": "~/data", "download": False, "flip": True},
        {"kind": "folder", "path": "images", "resize": 32, "labels": "none"},
        {"kind": "zip", "path": "ffhq-64x64.zip"},
        {"kind": "npz", "path": "true_data.npz", "num_real": 50_000},
        *({"kind": "glyphs", "size": size} for size in GLYPHS),
    ],
)
def test_every_kind_is_read(values: dict[str, Any]) -> None:
    config = DATA.validate_python(values)
    assert isinstance(config, ImageData)
    assert {**config.model_dump(), **values} == config.model_dump()


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"kind": "glyphs", "size": 24}, "size"),
        ({"kind": "folder"}, "path"),
        ({"kind": "npz", "path": "a.npz", "labels": "none"}, "labels"),
        ({"kind": "digits", "num_real": "100"}, "num_real"),
        ({"kind": "digits", "num_held_out": 0}, "num_held_out"),
        ({"kind": "digits", "flip": 1}, "flip"),
    ],
)
def test_what_does_not_belong_is_refused(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DATA.validate_python(values)
    assert [error["loc"][-1] for error in caught.value.errors()] == [place]


def test_the_defaults_of_the_digits_are_a_split_of_them() -> None:
    data = DigitsData(kind="digits")
    sizes = {
        "training-0": data.num_real,
        "validation": data.num_validation,
        "held_out": data.num_held_out,
    }
    assert {name: len(i) for name, i in split(digits(), sizes, 0).items()} == sizes
