"""Statements of a finding follow the numbers: when a sign changes, so does the statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dgray.record.row import Row
from dgray.reporting.build import read_table
from dgray.reporting.estimate import Estimate
from dgray.reporting.selection import best, worst
from dgray.reporting.text.finding import Finding, find
from tests.reporting.synthetic import Member, row, table_of, write_run
from tests.reporting.synthetic_overfit import results

BASE = Member("base", {})


def guided(
    objective: str,
    width: int,
    weight: float | None,
    change: float,
    replicates: int = 12,
    **columns: Any,
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
    for replicate in range(replicates):
        values = {"validation_change": change, "replicate": replicate} | metrics | columns
        yield row(member, 5, weight, **values)


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
            "raises the path KL significantly in 1 of 2 guided models (1 at w = 1) and lowers it "
            "in 1 (1 at w = 1). The largest significant rise is +0.50 ± 0.10 nats (adjusted p = ",
        ),
        (
            +0.1,
            "gain",
            "significantly in none of 2 guided models and lowers it in 1 (1 at w = 1). The "
            "highest change is +0.10 ± 0.10 nats (adjusted p = 0.34); width 64, epoch 5, w = 1.",
        ),
        (-0.5, "gain", "lowers it in 2 (2 at w = 1). The highest change is −0.50 ± 0.10 nats"),
        (0.0, "gain", "lowers it in 1 (1 at w = 1). No change is above 0. Weights covered"),
    ],
)
def test_effect_follows_the_sign(change: float, tone: str, expected: str) -> None:
    finding = finding_of(
        guided("cross_entropy", 64, 1.0, change), guided("cross_entropy", 8, 1.0, -0.9)
    )
    statement = sentences(finding, "effect on the metrics")[0]
    assert statement[0] == tone
    assert expected in statement[1]


def test_largest_rise_is_a_significant_one_rather_than_a_larger_noisy_one() -> None:
    noisy = guided("cross_entropy", 8, 1.0, 2.0, path_kl_change_se=1.0)
    finding = finding_of(noisy, guided("cross_entropy", 64, 1.0, 0.5))
    tone, text = sentences(finding, "effect on the metrics")[0]
    assert tone == "harm"
    assert "in 1 of 2 guided models" in text
    assert "width 64" in text


def test_all_weights_are_covered_and_named() -> None:
    finding = finding_of(
        guided("kl", 8, 0.5, -0.5),
        guided("kl", 8, 1.0, 0.0),
        guided("kl", 8, 1.5, 0.6),
        guided("kl", 8, None, -0.7),
    )
    _, text = sentences(finding, "effect on the metrics")[0]
    assert "in 1 of 4 guided models (1 at w = 1.5)" in text
    assert "lowers it in 2 (1 at w = 0.5, 1 at calibrated weight)" in text
    assert "Weights covered: w = 0.5, w = 1, w = 1.5 and calibrated weight." in text


def test_one_replicate_makes_nothing_significant_and_the_report_says_why() -> None:
    finding = finding_of(
        guided("kl", 8, 1.0, 9.0, replicates=1), guided("cross_entropy", 8, 1.0, -9.0, 1)
    )
    text = " ".join(s.text for s in finding.statements)
    assert "changes the path KL by +9 to +9 nats in 1 guided model" in text
    assert "with one replicate, no change was tested" in text
    assert not any(s.tone in ("harm", "gain") for s in finding.statements)
    assert "significant" not in text.replace("is called significant", "")
    (limitation,) = sentences(finding, "limitations")
    assert "2 guided models of 2 have one replicate" in limitation[1]
    assert "variation between training runs is then unknown" in limitation[1]
    assert finding.method == ""


@pytest.mark.parametrize(
    ("replicates", "p"),
    # Student's t of 3 standard errors in closed form for 1 and 2 degrees of freedom; a table.
    [(2, "0.2"), (3, "0.095"), (13, "0.011")],
)
def test_p_values_are_of_student_with_replicates_minus_one(replicates: int, p: str) -> None:
    finding = finding_of(guided("kl", 8, 1.0, 0.3, replicates))
    _, text = sentences(finding, "effect on the metrics")[0]
    assert f"(adjusted p = {p})" in text
    assert f"with {replicates - 1} degree" in finding.method


def test_adjusted_p_counts_all_comparisons() -> None:
    others = [guided("kl", width, w, 0.0) for width in (16, 32) for w in (0.5, 1.0, None)]
    finding = finding_of(guided("kl", 8, 1.0, 0.3), *others)
    assert "14 comparisons of trained models with the base" in finding.method
    _, text = sentences(finding, "effect on the metrics")[0]
    # two of 14 p-values are 0.0121 (11 degrees of freedom): 0.0121 * 14 / 2
    assert "(adjusted p = 0.085)" in text


def test_a_diverged_replicate_is_named_with_median_and_range() -> None:
    rows = list(guided("kl", 8, 1.0, -5.0, 4))
    rows[2] = next(guided("kl", 8, 1.0, 4566.0, 1, replicate=2))
    finding = finding_of(iter(rows))
    statements = sentences(finding, "diverged replicates")
    assert [tone for tone, _ in statements] == ["caution", "caution"]
    expected = "1 of 4 replicates diverged, median −5, range −5 to +4570, mean +1138 ± 1143 nats"
    assert expected in statements[0][1]
    assert "1 of 4 replicates diverged" in sentences(finding, "effect on the metrics")[0][1]


def test_a_replicate_without_a_value_diverged() -> None:
    rows = list(guided("kl", 8, 1.0, -5.0, 4))
    rows[2] = next(guided("kl", 8, 1.0, -5.0, 1, replicate=2, kl_change=None))
    (statement,) = sentences(finding_of(iter(rows)), "diverged replicates")
    assert "1 of 4 replicates diverged, median −5, range −5 to −5" in statement[1]
    assert "KL of the probability-flow ODE" in statement[1]


@pytest.mark.parametrize(
    ("kl", "tone", "sense"), [(-0.9, "gain", "lower"), (0.3, "caution", "higher")]
)
def test_comparison_of_best_settings_can_favour_either_objective(
    kl: float, tone: str, sense: str
) -> None:
    finding = finding_of(guided("kl", 8, 1.0, kl), guided("cross_entropy", 8, 1.0, -0.3))
    (statement,) = sentences(finding, "best models")
    assert statement[0] == tone
    assert f"Its path KL is significantly {sense}" in statement[1]


def test_best_settings_are_compared_in_pairs_of_replicates() -> None:
    """Both objectives share the spread between replicates, which cancels in the differences."""
    spread = np.linspace(-5, 5, 6)
    rows = []
    for replicate, shift in enumerate(spread):
        for name, level in (("kl", -0.6), ("cross_entropy", -0.3)):
            columns = {"replicate": replicate, "validation_change": 0.0, "path_kl_change_se": 0.01}
            rows += guided(name, 8, 1.0, float(level + shift), 1, **columns)
    (statement,) = sentences(finding_of(iter(rows)), "best models")
    expected = "Its path KL is significantly lower (difference −0.300 ± 0.014 nats"
    assert expected in statement[1]


def parted(level: float, noise: list[float]) -> dict[str, Any]:
    """A distance whose error has these parts."""
    return {"fd": level, "fd_se": float(np.linalg.norm(noise)), "fd_parts": noise}


@pytest.mark.parametrize("num_parts", [10, 3, 2])  # groups of a jackknife, or sampling seeds
def test_settings_on_the_same_samples_are_compared_in_pairs(num_parts: int) -> None:
    """Each error is 5 per part, but their difference only 0.1 per part."""
    noise = [5.0 * (-1) ** i for i in range(num_parts)]
    rows = [
        row(BASE, path_kl=1.0, path_kl_se=0.1, **parted(60.0, noise)),
        *guided("kl", 8, 1.0, -0.5, **parted(57.0, [value + 0.1 for value in noise])),
        *guided("cross_entropy", 8, 1.0, -0.5, **parted(60.0, noise)),
    ]
    (statement,) = sentences(find(table_of(rows)), "best models")
    error = 0.1 * num_parts**0.5
    p = 3 * 2 * stats.t.sf(3 / error, num_parts - 1)  # the smallest of three p-values
    shown = "adjusted p < 0.0001" if p < 1e-4 else f"adjusted p = {p:.2g}"
    assert f"(difference −3.00 ± {error:.2f}, {shown})" in statement[1]


def test_best_and_worst_have_one_definition() -> None:
    """The best model is selected on validation, the worst one on held-out data."""
    table = table_of(
        [
            *guided("kl", 8, 1.0, -0.9, validation_change=-0.1),  # luckier on held-out points
            *guided("kl", 16, 1.0, -0.2, validation_change=-0.3),
            *guided("kl", 32, None, 0.7, validation_change=-0.4),  # calibrated on validation
        ]
    )
    chosen, poorest = best(table, "kl"), worst(table.models)
    assert chosen is not None
    assert poorest is not None
    assert chosen["discriminator.width"] == poorest["discriminator.width"] == 32
    finding = find(table)
    lines = {r.name: r.estimates["path_kl"].value for r in finding.summary}
    assert lines["best KL objective"] <= lines["worst KL objective"] == pytest.approx(1.7)
    assert "validation split" in finding.selection


def test_selection_without_validation_is_called_optimistic() -> None:
    finding = finding_of(guided("kl", 8, 1.0, -0.2, validation_change=None))
    assert "optimistic" in finding.selection


@pytest.mark.parametrize(("change", "tone", "up"), [(0.1, "gain", "none"), (0.5, "harm", "1")])
def test_calibrated_weight_is_compared_with_the_base(change: float, tone: str, up: str) -> None:
    finding = finding_of(guided("kl", 8, None, change), guided("kl", 16, None, -0.5))
    statement = sentences(finding, "calibrated weight")[0]
    assert statement[0] == tone
    assert f"above that of the base in {up} of 2 guided models and below it in 1" in statement[1]


def test_disagreement_of_metrics_is_stated() -> None:
    opposite = {"kl_change": -0.6}
    finding = finding_of(guided("kl", 8, 1.0, 0.6, **opposite), guided("kl", 16, 1.0, 0.7))
    (statement,) = sentences(finding, "agreement of metrics")
    assert statement[0] == "caution"
    assert "The path KL and the KL of the probability-flow ODE disagree in part" in statement[1]
    assert "in the same direction in 1 and in opposite directions in 1" in statement[1]
    assert (
        "KL objective at width 8, epoch 5, w = 1 raises the path KL (+0.60 ± 0.10"
        in (statement[1])
    )


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("", "agreement of metrics"),
        ("agreement", "agreement of metrics"),
        ("effect", "effect on the metrics"),
        ("objectives", "best models"),
        ("controls", "controls"),
    ],
)
def test_the_question_of_the_study_is_answered_first(question: str, topic: str) -> None:
    distance = {"fd": 50.0, "fd_se": 1.0}
    oracle = row(Member("oracle", {}), 0, 1.0, path_kl=0.0, path_kl_se=0.1)
    rows = [
        row(BASE, path_kl=1.0, path_kl_se=0.1, fd=60.0, fd_se=1.0),
        oracle,
        *guided("kl", 8, 1.0, 0.6, **distance),
        *guided("cross_entropy", 8, 1.0, 0.3, **distance),
    ]
    finding = find(table_of(rows), question)
    assert {statement.topic for statement in finding.answer} == {topic}
    topics = [statement.topic for statement in finding.statements]
    assert topics.count(topic) == len(finding.answer)


def test_digits_question_compares_the_distance_with_the_divergences() -> None:
    """At w = 1 the distance falls although the path KL rises."""
    base = row(BASE, path_kl=1.0, path_kl_se=0.1, fd=60.0, fd_se=0.1)
    finding = find(table_of([base, *guided("kl", 8, 1.0, 0.6, fd=50.0, fd_se=0.1)]))
    first = finding.statements[0].text
    assert first.startswith("The path KL and the Fréchet distance disagree: of 1 guided model")
    change = "−10.00 ± 0.14, that is −16.67 ± 0.24 % of the base's"
    assert f"lowers the Fréchet distance ({change}, adjusted p < 0.0001)" in first


def test_a_change_is_relative_to_a_base_whose_distance_is_beyond_its_error() -> None:
    def highest(of_base: float) -> str:
        base = row(BASE, path_kl=1.0, path_kl_se=0.1, fd=of_base, fd_se=10.0)
        finding = find(table_of([base, *guided("kl", 8, 1.0, 0.6, fd=of_base - 4, fd_se=0.1)]))
        statements = [s.text for s in finding.statements if "the Fréchet distance sig" in s.text]
        return statements[0].partition("The highest change is ")[2].partition(" (")[0]

    assert highest(40.0) == "−4 ± 10, that is −10 ± 25 % of the base's"
    assert highest(29.0) == "−4 ± 10"


def test_missing_metrics_leave_statements_out() -> None:
    finding = find(table_of([row(BASE), row(Member("kl", {}), 5, 1.0, replicate=0)]))
    assert [s.topic for s in finding.statements] == ["limitations"]
    assert not any("path_kl" in r.estimates for r in finding.summary)


def test_failures_and_missed_tolerances_are_limitations() -> None:
    finding = finding_of(
        guided("kl", 8, 1.0, 0.1, kl_unconverged=0.2),
        iter([row(Member("kl", {"discriminator.width": 9}), 5, 1.0, status="failed")]),
    )
    statement = " ".join(text for _, text in sentences(finding, "limitations"))
    assert "In 12 of 13 rows with a value of kl" in statement
    assert "Comparisons of kl leave out 1 of 1 guided model for this reason" in statement
    assert "1 trial failed" in statement


def test_unreliable_kl_is_left_out_of_comparisons() -> None:
    suspect = {"kl_unconverged": 0.01, "kl_change": 5.0}
    sound = guided("cross_entropy", 8, 1.0, -0.5, kl_unconverged=0.0)
    finding = finding_of(sound, guided("cross_entropy", 64, 1.0, -0.5, **suspect))
    path, flow = sentences(finding, "effect on the metrics")
    assert "in none of 2 guided models" in path[1]
    assert "in none of 1 guided model and lowers it in 1" in flow[1]
    assert "leave out 1 of 2 guided models" in sentences(finding, "limitations")[0][1]


@pytest.mark.parametrize(("place", "metrics"), [(None, 2), ("kl", 1), ("cross_entropy", 1)])
def test_unreliable_kl_is_left_out_of_the_comparison_of_best_settings(
    place: str | None, metrics: int
) -> None:
    share = {place: 0.01}
    finding = finding_of(
        *(
            guided(name, 8, 1.0, -0.3, kl_unconverged=share.get(name, 0.0))
            for name in ("kl", "cross_entropy")
        )
    )
    (statement,) = sentences(finding, "best models")
    assert statement[1].count("Its ") == metrics


def test_statements_of_a_whole_study_follow_its_numbers(overfit_run: Path, tmp_path: Path) -> None:
    def rises(run: Path) -> dict[str, int]:
        matches = [
            re.match(r"(.+) raises the path KL significantly in (none|\d+) of", statement.text)
            for statement in find(read_table(run)).statements
        ]
        return {m[1]: 0 if m[2] == "none" else int(m[2]) for m in matches if m}

    as_measured = rises(overfit_run)
    swapped = rises(write_run(tmp_path, results({"cross_entropy": 0.0, "kl": 2.4})))
    assert as_measured["Cross-entropy"] > 2 * as_measured["The KL objective"]
    assert swapped["The KL objective"] > 2 * swapped["Cross-entropy"]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(2.3149, 0.123), "2.31 ± 0.12"),
        (Estimate(-0.5, 0.034), "\N{MINUS SIGN}0.500 ± 0.034"),
        (Estimate(23.7, 3.4), "23.7 ± 3.4"),
        (Estimate(6.4e49, 1.86e48), "6.4e+49 ± 1.9e+48"),
        (Estimate(-2.5, 3e7), "\N{MINUS SIGN}2.5 ± 3e+07"),
        (Estimate(999_999.0, 12.0), "999999 ± 12"),
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
