"""Numbers whose squares or powers overflow are refused when a study is read, in any field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dgray.config.reading.load import load_study
from dgray.errors import StudyError

STUDY = """\
name: tiny
data: {kind: mixture, components: {means: [[-1.0], [1.0]], stds: [0.3, 0.3], weights: [1.0, 2.0]}}
base: {kind: wrong_mixture, std_scale: 1.4}
fit: {noise: {low: 0.01, high: 10.0}}
evaluate: {guidance_weight: 1, guidance_interval: [0.1, 1.0]}
resources: {trial_time_limit: 10.0}
"""
HARMLESS = {"base.weight_slope", "fit.dropout", "fit.ema_decay"}  # of size < 1, and 0 is allowed
EXTREMES = [1e308, -1e308, 1.7976931348623157e308, 1e30, -1e30]
TINY = [1e-308, -1e-308, 5e-324, 1e-30]


def numeric_fields(value: object, path: tuple[str, ...] = ()) -> list[str]:
    """Return the paths of all fields that hold numbers, or lists of them, or null."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return [p for name in fields for p in numeric_fields(getattr(value, name), (*path, name))]
    return [] if isinstance(value, str | bool | dict) else [".".join(path)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extreme") / "study.yaml"
    path.write_text(STUDY)
    return path


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_extreme_numbers_are_refused_in_every_field(study: Path, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(numeric_fields(load_study(study).configs[0].config)))
    values = EXTREMES if field in HARMLESS else EXTREMES + TINY
    value = data.draw(st.sampled_from(values))
    with pytest.raises(StudyError) as raised:
        load_study(study, [f"{field}={value!r}"])
    assert field.split(".")[0] in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        (
            "diffusion.sigma_min=1.0e-7",
            "diffusion.sigma_min: must have a magnitude from 1e-06 to 1e+06",
        ),
        ("diffusion.rho=0.01", "diffusion.rho: must have a magnitude from 0.1 to 1000"),
        ("data.components.means=[[0.0], [1.0e+7]]", "must have a magnitude from 1e-09 to 1e+06"),
        ("evaluate.guidance_weight=[1.0e+10]", "must have a magnitude from 1e-09 to 1e+09"),
        ("fit.epochs=1.0e+300", "fit.epochs: must be an integer, but got 1e+300, beyond"),
    ],
)
def test_the_message_states_the_bounds(study: Path, override: str, rule: str) -> None:
    with pytest.raises(StudyError) as raised:
        load_study(study, [override])
    assert rule in str(raised.value)
