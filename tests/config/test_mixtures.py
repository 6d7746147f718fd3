"""Mixtures written out as a list of components: covariances and classes."""

from __future__ import annotations

import pytest

from tests.config.conftest import Load, Refuse

TEMPLATE = """\
name: a
data: {{kind: mixture, components: {components}}}
base: {{kind: wrong_mixture, {base}}}
discriminator: {{{discriminator}}}
"""
ONE = "{mean: [0, 0], std: 1}"


@pytest.mark.parametrize(
    ("components", "problem"),
    [
        ("[{mean: [0, 0]}]", "std or covariance must be given, and not both"),
        ("[{mean: [0, 0], std: [1, 2, 3]}]", "std: must be one number, or one per dimension"),
        ("[{mean: [0, 0], std: -1}]", "std: must be a list or > 0, but got -1"),
        (
            "[{mean: [0, 0], covariance: [[1, 0], [0]]}]",
            "covariance: must have 2 rows of 2 numbers, as many as mean, but got 2 rows of 1 and "
            "2 numbers",
        ),
        (
            "[{mean: [0, 0], covariance: [[1, 0.5], [0.4, 1]]}]",
            "covariance: must be symmetric, but row 1 has 0.5 and row 2 has 0.4",
        ),
        (
            "[{mean: [0, 0], covariance: [[1, 2], [2, 1]]}]",
            "covariance: must have eigenvalues from 1e-12 to 1e+12, but they go from -1 to 3; it "
            "is not positive definite",
        ),
        (
            "[{mean: [0, 0], covariance: [[1]]}]",
            "covariance: must have 2 rows of 2 numbers, as many as mean, but got 1 row of 1 "
            "number",
        ),
        (
            "[{mean: [0, 0], covariance: [1, 2]}]",
            "components[0].covariance: every entry must be a list, but got 1 and 2",
        ),
        ("{means: [0, 1], stds: [1, 1]}", "means: every entry must be a list, but got 0 and 1"),
        ("[1, 2, 3]", "data.components: every entry must be a section of fields, but got 1 and 2"),
        (
            f"[{ONE}, {{mean: [0], std: 1}}]",
            "all means must have the same dimension, but got 1 and 2",
        ),
        (f"[{ONE}, {{mean: [1, 0], std: 1, label: 0}}]", "label must be given for all components"),
        ("[{mean: [0, 0], std: 1, label: 1}]", "each class from 0 to the highest"),
        ("[]", "must have at least one entry"),
        ("[{mean: [0, 0], std: 1, wieght: 1}]", "unknown field; did you mean 'weight'?"),
    ],
)
def test_mistakes_are_refused_in_one_line(refuse: Refuse, components: str, problem: str) -> None:
    (line,) = refuse(TEMPLATE.format(components=components, base="std_scale: 2", discriminator=""))
    assert problem in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("base", "discriminator", "problem"),
    [
        ("conditional: true", "", "base.conditional: must be false without classes"),
        ("std_scale: 2", "conditional: true", "discriminator.conditional: must be false without"),
        ("of: ring8, correlation_scale: 2", "", "base.correlation_scale: must be <= 1"),
    ],
)
def test_classes_must_exist(refuse: Refuse, base: str, discriminator: str, problem: str) -> None:
    study = TEMPLATE.format(components=f"[{ONE}]", base=base, discriminator=discriminator)
    (line,) = refuse(study)
    assert problem in line


def test_a_conditional_base_needs_the_classes_of_the_data(refuse: Refuse) -> None:
    components = "[{mean: [0, 0], std: 1, label: 0}, {mean: [1, 0], std: 1, label: 1}]"
    base = f"conditional: true, components: [{ONE}]"
    (line,) = refuse(TEMPLATE.format(components=components, base=base, discriminator=""))
    assert "needs a base with the 2 classes of the data, but it has 0" in line


def test_new_fields_do_not_change_the_identity_of_older_studies(load: Load) -> None:
    study = TEMPLATE.format(components=f"[{ONE}]", base="std_scale: 2", discriminator="")
    (assignment, *_) = load(study).configs
    values = assignment.config.model_dump(mode="json")
    assert "conditional" not in values["base"]
    assert "correlation_scale" not in values["base"]
    assert "conditional" not in values["discriminator"]
