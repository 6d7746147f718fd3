"""Statements and the figure of estimates of the KL of the base follow the numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dgray.record.row import Row
from dgray.reporting.figures.ratio import ratio_estimates_against_exact
from dgray.reporting.figures.style import styled
from dgray.reporting.ratios import ratio_points
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import find
from tests.reporting.synthetic import Member, row, table_of


def discriminator(
    objective: str, name: str, exact: float, estimate: float, replicates: int = 5
) -> Iterator[Row]:
    """A discriminator at two checkpoints and weights; the first checkpoint estimates 0."""
    member = Member(objective, {"fit.objective": objective, "data.name": name})
    for epoch, factor in ((5, 0.0), (15, 1.0)) if replicates > 1 else ((0, 1.0),):
        for weight in (0.5, 1.0):
            for replicate in range(replicates):
                value = factor * estimate + 0.01 * replicate
                yield row(
                    member,
                    epoch,
                    weight,
                    replicate=replicate,
                    ratio_kl_exact=exact,
                    ratio_kl_exact_se=0.1,
                    ratio_kl=value,
                    ratio_kl_se=0.1,
                )


def table(low: float, oracle: float = 20.0) -> StudyTable:
    base = Member("base", {"data.name": "b"})
    return table_of(
        [
            row(base, ratio_kl_exact=20.0, ratio_kl_exact_se=0.1),
            *discriminator("kl", "a", 5.0, 5.0),
            *discriminator("kl", "b", 20.0, low),
            *discriminator("oracle", "b", 20.0, oracle, replicates=1),
        ]
    )


@pytest.mark.parametrize(
    ("value", "below", "above", "shares"),
    [
        (10.0, 1, 0, "50.1 % to 100 %"),
        (20.1, 0, 0, "100 % to 101 %"),
        (60.0, 0, 1, "100 % to 300 %"),
    ],
)
def test_the_statement_follows_the_sign(value: float, below: int, above: int, shares: str) -> None:
    (statement,) = find(table(value), "ratio").answer
    assert f"below the exact value in {below} of 2 trained discriminators" in statement.text
    assert f"above it in {above}, at the last checkpoint" in statement.text
    assert "(exact: 5 to 20 nats; adjusted for all 3 comparisons with it)" in statement.text
    assert f"The estimates are {shares}" in statement.text
    assert statement.tone == ("caution" if below or above else "neutral")


def test_a_wrong_control_is_stated() -> None:
    (statement,) = find(table(20.0, oracle=50.0), "ratio").answer
    assert statement.text.endswith("That of controls is 250 % of the exact value.")
    assert statement.tone == "caution"


def test_each_discriminator_is_read_once_at_its_last_checkpoint() -> None:
    points = ratio_points(table(10.0))
    assert [round(point.estimate.value, 2) for point in points] == [20.0, 5.02, 10.02]
    assert [point.comparison.sign for point in points] == [0, 0, -1]


def test_the_figure_has_a_line_per_objective() -> None:
    with styled():
        drawn = ratio_estimates_against_exact(table(10.0))
    assert drawn is not None
    assert list(drawn.data["discriminator"]) == ["oracle", "KL objective", "KL objective"]
    assert list(drawn.data["exact"]) == [20.0, 5.0, 20.0]


def test_nothing_is_stated_without_estimates() -> None:
    empty = table_of([row(Member("base", {}))])
    assert ratio_points(empty) == []
    assert ratio_estimates_against_exact(empty) is None
