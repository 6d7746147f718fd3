"""Statements of a finding follow the numbers: when a sign changes, so does the statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgray.record.row import Row
from dgray.reporting.build import read_table
from dgray.reporting.text.finding import Finding, find
from dgray.reporting.text.statement import Estimate
from dgray.reporting.text.summary import best
from tests.reporting.synthetic import Member, row, table_of, write_run
from tests.reporting.synthetic_overfit import results

BASE = Member("base", {})


def guided(
    objective: str, width: int, weight: float | None, change: float, **columns: Any
) -> Iterator[Row]:
    """A checkpoint whose path KL and ODE KL change by ``change`` +- 0.1 from a base of 1."""
    member = Member(objective, {"fit.objective": objective, "discriminator.width": width})
    metrics = {
        name: value
        for lens in ("kl", "path_kl")
        for name, value in {
            lens: 1 + change,
            f"{lens}_se": 0.1,
            f"{lens}_change": change,
            f"{lens}_change_se": 0.1,
        }.items()
    }
    yield row(member, 5, weight, **({"validation_change": change} | metrics | columns))


def finding_of(*groups: Iterator[Row]) -> Finding:
    unguided = row(BASE, kl=1.0, kl_se=0.1, path_kl=1.0, path_kl_se=0.1)
    return find(table_of([unguided, *(r for group in groups for r in group)]))


def sentences(finding: Finding, topic: str) -> list[tuple[str, str]]:
    return [(s.tone, s.text) for s in finding.statements if s.topic == topic]


@pytest.mark.parametrize(
    ("change", "tone", "expected"),
    [
        (
            +0.5,
            "harm",
            "in 1 of 2 guided models, most at width 64, epoch 5, w = 1: 1.50 ± 0.10 nats "
            "(base: 1.00 ± 0.10)",
        ),
        (+0.2, "neutral", "by more than 3 standard errors in none of 2 guided models"),
        (
            -0.5,
            "gain",
            "lowers the path KL by more than 3 standard errors in all of 2",
        ),
    ],
)
def test_worst_cross_entropy_follows_the_sign(change: float, tone: str, expected: str) -> None:
    finding = finding_of(
        guided("cross_entropy", 64, 1.0, change), guided("cross_entropy", 8, 1.0, -0.9)
    )
    statement = sentences(finding, "worst case: cross-entropy")[0]
    assert statement[0] == tone
    assert expected in statement[1]


def test_worst_case_is_a_certain_rise_rather_than_a_larger_noisy_one() -> None:
    noisy = guided("cross_entropy", 8, 1.0, 2.0, path_kl_change_se=1.0)
    finding = finding_of(noisy, guided("cross_entropy", 64, 1.0, 0.5))
    statement = sentences(finding, "worst case: cross-entropy")[0]
    assert statement[0] == "harm"
    assert "most at width 64" in statement[1]
    assert "1 of 2 guided models" in statement[1]


def test_harm_is_stated_in_standard_errors() -> None:
    finding = finding_of(guided("cross_entropy", 64, 1.0, 0.5))
    assert "+5.0 standard errors" in sentences(finding, "worst case: cross-entropy")[0][1]


def test_harm_by_the_kl_objective_is_stated() -> None:
    finding = finding_of(guided("kl", 64, 1.0, 0.7))
    assert sentences(finding, "worst case: KL objective")[0][0] == "harm"


def test_models_are_counted_at_the_main_weight_only() -> None:
    changes = {8: -0.5, 16: 0.1, 32: 0.4, 64: 0.6}
    finding = finding_of(
        *(guided("cross_entropy", width, 1.0, change) for width, change in changes.items()),
        guided("cross_entropy", 8, 2.0, 5.0),
    )
    (statement,) = sentences(finding, "counts")
    assert "raises the path KL in 2 of 4 guided models and lowers it in 1" in statement[1]
    assert statement[0] == "harm"


@pytest.mark.parametrize(
    ("kl", "tone", "sense"), [(-0.9, "gain", "lower"), (0.3, "caution", "higher")]
)
def test_comparison_of_best_settings_can_favour_either_objective(
    kl: float, tone: str, sense: str
) -> None:
    finding = finding_of(guided("kl", 8, 1.0, kl), guided("cross_entropy", 8, 1.0, -0.3))
    (statement,) = sentences(finding, "best settings")
    assert statement[0] == tone
    assert f"Its path KL is {sense}" in statement[1]


def test_best_setting_is_selected_on_validation_and_reported_on_held_out_data() -> None:
    table = table_of(
        [
            *guided("kl", 8, 1.0, -0.9, validation_change=-0.1),  # luckier on held-out points
            *guided("kl", 16, 1.0, -0.2, validation_change=-0.4),
        ]
    )
    chosen = best(table, "kl")
    assert chosen is not None
    assert chosen[0]["discriminator.width"] == 16
    finding = find(table)
    line = next(r for r in finding.summary if r.name == "best KL objective")
    assert line.estimates["path_kl"] == Estimate(0.8, 0.1)
    assert "validation split" in finding.selection


def test_selection_without_validation_is_called_optimistic() -> None:
    finding = finding_of(guided("kl", 8, 1.0, -0.2, validation_change=None))
    assert "optimistic" in finding.selection


@pytest.mark.parametrize(("change", "tone"), [(0.2, "gain"), (0.5, "harm")])
def test_calibrated_is_judged_in_standard_errors(change: float, tone: str) -> None:
    finding = finding_of(guided("kl", 8, None, change), guided("kl", 16, None, -0.5))
    (statement,) = sentences(finding, "calibrated weight")
    assert statement[0] == tone
    assert "0.20 ± 0.10" in statement[1] or "in 1 of 2 guided models" in statement[1]


def test_disagreement_of_metrics_is_stated() -> None:
    member = Member("base", {})
    sde = row(member, sampler="sde", kl_sde=0.5, kl_sde_se=0.1)
    quiet = {"kl_sde": 0.5, "kl_sde_se": 0.1, "kl_sde_change": 0.0, "kl_sde_change_se": 0.1}
    finding = finding_of(iter([sde]), guided("kl", 8, 1.0, 0.6, sampler="sde", **quiet))
    agreement, disagreement = sentences(finding, "agreement of metrics")
    assert (agreement[0], disagreement[0]) == ("neutral", "caution")
    assert "the path KL rises as well" in agreement[1]
    assert "the KL of the SDE sampler does not rise in 1 of them" in disagreement[1]


def test_missing_metrics_leave_statements_out() -> None:
    finding = find(table_of([row(BASE), row(Member("kl", {}), 5, 1.0)]))
    assert finding.statements == ()
    assert not any("path_kl" in r.estimates for r in finding.summary)


def test_failures_and_missed_tolerances_are_limitations() -> None:
    finding = finding_of(
        guided("kl", 8, 1.0, 0.1, kl_unconverged=0.2),
        iter([row(Member("kl", {"discriminator.width": 9}), 5, 1.0, status="failed")]),
    )
    statement = " ".join(text for _, text in sentences(finding, "limitations"))
    assert "In 1 of 2 rows with a value of kl" in statement
    assert "Comparisons of kl leave out 1 of 1 guided model for this reason" in statement
    assert "1 trial failed" in statement


def test_unreliable_kl_is_left_out_of_counts_and_worst_cases() -> None:
    suspect = {"kl_unconverged": 0.01, "kl_change": 5.0}
    sound = guided("cross_entropy", 8, 1.0, -0.5, kl_unconverged=0.0)
    finding = finding_of(sound, guided("cross_entropy", 64, 1.0, -0.5, **suspect))
    (counts,) = sentences(finding, "counts")
    assert "raises the path KL in 0 of 2 guided models and lowers it in 2" in counts[1]
    assert "raises the KL of the probability-flow ODE in 0 of 1 guided model" in counts[1]
    assert {t for t, _ in sentences(finding, "worst case: cross-entropy")} == {"gain"}
    assert sentences(finding, "agreement of metrics") == []
    assert "leave out 1 of 2 guided models" in sentences(finding, "limitations")[0][1]


@pytest.mark.parametrize(("place", "lenses"), [(None, 2), ("kl", 1), ("cross_entropy", 1)])
def test_unreliable_kl_is_left_out_of_the_comparison_of_best_settings(
    place: str | None, lenses: int
) -> None:
    share = {place: 0.01}
    finding = finding_of(
        *(
            guided(name, 8, 1.0, -0.3, kl_unconverged=share.get(name, 0.0))
            for name in ("kl", "cross_entropy")
        )
    )
    (statement,) = sentences(finding, "best settings")
    assert statement[1].count("compared with") == lenses + 1


@pytest.mark.parametrize(
    ("replicates", "expected"),
    [
        (1, None),
        # Student's t in closed form: 1 - 2 atan(3) / pi; 1 - 3 / sqrt(11).
        (
            2,
            "from 2 replicates: .* p-value of 0.2 per .*1 degree of freedom.* 2 guided",
        ),
        (
            3,
            "from 3 replicates: .*p-value of 0.095 per .*2 degrees of freedom.* 2 guided",
        ),
        (10, None),
    ],
)
def test_few_replicates_are_a_limitation(replicates: int, expected: str | None) -> None:
    cells = [
        guided("kl", 8, weight, -0.5, replicate=replicate)
        for replicate in range(replicates)
        for weight in (1.0, 2.0, None)  # 2 is not the main weight, so it is not compared
    ]
    statement = [text for _, text in sentences(finding_of(*cells), "limitations")]
    assert len(statement) == (expected is not None)
    assert all(re.search(expected or "", text) for text in statement)


def test_statements_of_a_whole_study_follow_its_numbers(overfit_run: Path, tmp_path: Path) -> None:
    def topics(run: Path) -> dict[str, str]:
        return {s.topic: s.tone for s in find(read_table(run)).statements[::-1]}

    as_measured = topics(overfit_run)
    swapped = topics(write_run(tmp_path, results({"cross_entropy": 0.0, "kl": 2.4})))
    assert as_measured["worst case: cross-entropy"] == "harm"
    assert as_measured["worst case: KL objective"] == "gain"
    assert swapped["worst case: cross-entropy"] == "gain"
    assert swapped["worst case: KL objective"] == "harm"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(2.3149, 0.123), "2.31 ± 0.12"),
        (Estimate(-0.5, 0.034), "\N{MINUS SIGN}0.500 ± 0.034"),
        (Estimate(23.7, 3.4), "23.7 ± 3.4"),
        (Estimate(6.39e-4, 3.2e-4), "0.0006 ± 0.0003"),
        (Estimate(1.25e-9, 1e-9), "1.25e\N{MINUS SIGN}09 ± 1e\N{MINUS SIGN}09"),
        (Estimate(0.0, 0.0), "0 ± 0"),
        (Estimate(494.0, 123.0), "494 ± 123"),
        (Estimate(0.5, float("nan")), "0.5"),
        (Estimate(float("inf"), 0.1), "diverged"),
    ],
)
def test_estimate_has_the_digits_of_its_error(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def test_summary_shows_the_worst_setting_of_a_control(counterexample_run: Path) -> None:
    """A control can be near-optimal in cross-entropy and harmful."""
    table = read_table(counterexample_run)
    (line,) = [row for row in find(table).summary if row.name == "worst oscillating control"]
    shown = table.models[(table.models["objective"] == "oscillating")]
    assert line.estimates["path_kl"].value == shown["path_kl"].max()
    assert "w = 1" in line.setting
