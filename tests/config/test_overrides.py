"""``--set``: replaces and adds fields before validation, and is the place of its own mistakes."""

from __future__ import annotations

import pytest

from tests.config.conftest import MINIMAL, Load, Refuse


def test_values_are_yaml_and_replace_or_add(load: Load) -> None:
    study = load(
        MINIMAL + "fit: {epochs: 3}\n",
        "fit.epochs=5",
        "discriminator.width=[16, 64]",
        "data={kind: mixture, name: grid25}",
        "fit.noise.low=0.01",
        "description=a = b",
    )
    config = study.configs[0].config
    assert config.fit.epochs == 5
    assert config.fit.noise.low == 0.01
    assert config.data.name == "grid25"
    assert study.axes == {"discriminator.width": (16, 64)}
    assert study.description == "a = b"


def test_the_last_of_two_counts(load: Load) -> None:
    assert load(MINIMAL, "seed=1", "seed=2").configs[0].config.seed == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("fit.epochs=x", "--set fit.epochs=x: fit.epochs: must be an integer, but got 'x'"),
        (
            "discriminator.width=[16, y]",
            "--set discriminator.width=[16, y]: discriminator.width[1]: must be an integer, "
            "but got 'y'",
        ),
        (
            "fit.epohcs=3",
            "--set fit.epohcs=3: fit.epohcs: unknown field; did you mean 'epochs'?",
        ),
        (
            "fit.epochs",
            "--set fit.epochs: must be of the form field.name=value, like fit.epochs=100",
        ),
        (
            ".epochs=3",
            "--set .epochs=3: must be of the form field.name=value, like fit.epochs=100",
        ),
        (
            "name.first=3",
            "--set name.first=3: name: has the value 'small' and no fields, so 'name.first' "
            "cannot be set",
        ),
        ("seed=", "--set seed=: seed: must be an integer, but got None"),
    ],
)
def test_mistakes_are_reported_at_the_override(
    refuse: Refuse, override: str, problem: str
) -> None:
    assert refuse(MINIMAL, override) == [problem]


def test_broken_yaml_is_reported_at_the_override(refuse: Refuse) -> None:
    (line,) = refuse(MINIMAL, "seed=[1")
    assert line.startswith("--set seed=[1: not valid YAML: ")


def test_all_broken_overrides_are_reported(refuse: Refuse) -> None:
    assert len(refuse(MINIMAL, "fit.epochs", "name.first=3", "seed=[1")) == 3


def test_mistakes_of_the_file_come_first(refuse: Refuse) -> None:
    lines = refuse(MINIMAL + "seed: x\n", "fit.epochs=y")
    assert [line.split(": ")[0] for line in lines] == ["study.yaml:4:1", "--set fit.epochs=y"]
