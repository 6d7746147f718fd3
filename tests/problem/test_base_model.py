from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from dgray.base.fit_data import BaseData
from dgray.base.fit_network import BaseArchitecture
from dgray.base.fit_state import read_metadata
from dgray.config.bases import TrainedBase
from dgray.problem.base_model import TrainingData, build_base_fit, build_schedule
from tests.base.test_fit import run_to_end

DATA = BaseData(torch.zeros(6, 1, 16, 16, dtype=torch.uint8), torch.arange(6) % 3)


def base(**fields: Any) -> TrainedBase:
    return TrainedBase(kind="trained", **{"width": 8, "depth": 1, "steps": 1, **fields})


def fitted(config: TrainedBase, data: BaseData = DATA) -> BaseArchitecture:
    fit = build_base_fit(config, TrainingData(data, 0.7, 3), seed=0)
    return BaseArchitecture.from_json(read_metadata(run_to_end(fit)))


def test_fields_of_the_network() -> None:
    config = base(dropout=0.25, attention=True, conditional=True)
    assert fitted(config) == BaseArchitecture("unet", (1, 16, 16), 8, 1, 0.7, 3, 0.25, True)
    assert fitted(base(network="mlp")) == BaseArchitecture("mlp", (1, 16, 16), 8, 1, 0.7)
    assert fitted(base(), BaseData(torch.zeros(6, 2))) == BaseArchitecture("mlp", (2,), 8, 1, 0.7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 3),
        ("batch_size", 2),
        ("learning_rate", 0.5),
        ("learning_rate_decay", "constant"),
        ("warmup", 0),
        ("ema_decay", 0.0),
    ],
)
def test_fields_of_the_schedule(field: str, value: object) -> None:
    usual = asdict(build_schedule(base()))
    assert asdict(build_schedule(base(**{field: value}))) == {**usual, field: value} != usual


def test_a_conditional_base_needs_labels() -> None:
    with pytest.raises(ValueError, match=r"needs labels.* set base\.conditional: false"):
        fitted(base(conditional=True), replace(DATA, labels=None))


def test_attention_belongs_to_a_unet() -> None:
    with pytest.raises(ValidationError, match="set attention: false"):
        base(network="mlp", attention=True)
