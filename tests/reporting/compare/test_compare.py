"""Comparisons of runs against differences and tests computed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import dgray
from dgray.cli.main import main
from dgray.errors import NotARunError, RunRefusedError
from dgray.record.row import CheckpointResult, Row
from dgray.record.run_folder import RunFolder
from dgray.record.seal import sealed_yaml
from dgray.reporting.compare.report import compare_runs
from tests.reporting.synthetic import Member, row

STUDY = {
    "seed": 0,
    "data": {"kind": "mixture", "name": "ring8", "num_real": 100, "num_held_out": 200},
    "base": {"kind": "wrong_mixture", "std_scale": 1.4},
    "diffusion": {"sigma_min": 0.01, "sigma_max": 20.0},
    "discriminator": {"width": 8},
    "fit": {"objective": ["kl", "cross_entropy"], "learning_rate": 0.001},
    "evaluate": {"num_points": 50, "num_samples": 100},
}
VALUES = {"kl": [0.10, 0.14, 0.12, 0.11], "cross_entropy": [0.3, 0.5, 0.2, 0.4]}
OTHER = {"kl": [0.13, 0.15, 0.16, 0.12], "cross_entropy": [0.31, 0.47, 0.22, 0.41]}
BASE, ERROR = 0.2, 0.01


def write(
    folder: Path,
    values: dict[str, Sequence[float]],
    axes: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a run: each objective with replicates, one checkpoint and one weight."""
    study = json.loads(json.dumps(STUDY))
    for path, value in changes.items():
        section, _, name = path.partition("__")
        if name:
            study[section][name] = value
        else:
            study[section] = value
    run = RunFolder(folder)
    member = Member("base", {})
    rows = [row(member, 0, 0.0, path_kl=BASE, path_kl_se=ERROR)]
    run.write_result(result(member, 0, rows))
    for name, numbers in values.items():
        member = Member(name, {"fit.objective": name, **(axes or {})})
        rows = [
            row(
                member,
                5,
                1.0,
                replicate=index,
                path_kl=number,
                path_kl_se=ERROR,
                path_kl_change=number - BASE,
                path_kl_change_se=ERROR,
                path_kl_change_parts=[ERROR, 0.002 * index, *[0.0] * 8],
                validation_change=number - BASE,
            )
            for index, number in enumerate(numbers)
        ]
        run.write_result(result(member, 5, rows))
    text = json.dumps({"name": folder.name, **study})
    run.files.write_record("study.lock.yaml", partial(sealed_yaml, f"{text}\n"))
    return folder


def result(member: Member, epoch: int, rows: list[Row]) -> CheckpointResult:
    return CheckpointResult(
        trial=member.id, epoch=epoch, rows=tuple(rows), clouds=(), losses=(), state=None
    )


def line(frame: pd.DataFrame, objective: str, kind: str = "same settings") -> pd.Series:
    lines = frame[(frame["kind"] == kind) & (frame["objective"] == objective)]
    assert len(lines) == 1
    return lines.iloc[0]


def test_shared_seeds_are_compared_in_pairs(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / "a", VALUES),
        write(tmp_path / "b", OTHER, fit__learning_rate=0.01),
    ]
    comparison = compare_runs(runs)
    frame = comparison.frame()
    p = {}
    for name in VALUES:
        gaps = np.subtract(OTHER[name], VALUES[name])
        # The parts of both runs are the same, so that no error over points is left.
        expected = stats.ttest_1samp(gaps, 0.0)
        for kind in ("same settings", "best models"):
            values = line(frame, name, kind)
            assert values["difference"] == pytest.approx(gaps.mean())
            assert values["difference_se"] == pytest.approx(gaps.std(ddof=1) / 2)
            assert values["p"] == pytest.approx(expected.pvalue)
            assert values["is_paired"]
            assert values["count"] == 4
        p[name] = expected.pvalue
    every = np.array([*p.values(), *p.values()])
    adjusted = stats.false_discovery_control(every)
    assert sorted(frame["adjusted_p"].dropna()) == pytest.approx(sorted(adjusted))
    assert comparison.fields["field"].tolist() == ["fit.learning_rate"]
    assert comparison.fields.loc[0, ["a", "b"]].tolist() == ["0.001", "0.01"]
    assert comparison.identical == ()  # the base has no change


def test_what_one_run_alone_has_is_named(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path / "a", VALUES), write(tmp_path / "b", {"kl": OTHER["kl"]})
    for pair in ([ours, theirs], [theirs, ours]):
        (reason,) = (text for text in compare_runs(pair).impossible if "alone" in text)
        assert reason.endswith("best settings: a alone has cross-entropy")
    assert not any("alone" in text for text in compare_runs([ours, ours]).impossible)


def test_other_points_add_the_errors_of_both_runs(tmp_path: Path) -> None:
    runs = [write(tmp_path / "a", VALUES), write(tmp_path / "b", OTHER, data__num_held_out=300)]
    values = line(compare_runs(runs).frame(), "kl")
    gaps = np.subtract(OTHER["kl"], VALUES["kl"])
    error = np.sqrt(gaps.var(ddof=1) / 4 + 2 * ERROR**2)
    assert values["is_paired"]
    assert values["difference_se"] == pytest.approx(error)


def test_other_seeds_are_compared_by_joint_errors_after_welch(tmp_path: Path) -> None:
    runs = [write(tmp_path / "a", VALUES), write(tmp_path / "b", OTHER, seed=1)]
    values = line(compare_runs(runs).frame(), "cross_entropy")
    squares = [np.var(v["cross_entropy"], ddof=1) / 4 + ERROR**2 for v in (VALUES, OTHER)]
    degrees = sum(squares) ** 2 / sum(s**2 / 3 for s in squares)
    gap = np.mean(OTHER["cross_entropy"]) - np.mean(VALUES["cross_entropy"])
    assert not values["is_paired"]
    assert values["difference"] == pytest.approx(gap)
    assert values["difference_se"] == pytest.approx(np.sqrt(sum(squares)))
    assert values["degrees"] == pytest.approx(degrees)
    t = abs(gap) / np.sqrt(sum(squares))
    assert values["p"] == pytest.approx(2 * stats.t.sf(t, degrees))


def test_the_same_run_twice_differs_in_nothing(tmp_path: Path) -> None:
    run = write(tmp_path / "a", VALUES)
    comparison = compare_runs([run, run])
    assert comparison.fields.empty
    assert [r.label for r in comparison.runs] == ["a (1)", "a (2)"]
    assert set(comparison.frame()["kind"]) == {"best models"}
    assert comparison.frame()["difference"].eq(0).all()
    assert comparison.frame()["p"].isna().all()
    assert comparison.identical == (
        "a (2): 2 values are the same as in a (1), because both studies have these trials; not "
        "tested",
    )


@pytest.mark.parametrize("lost", [np.inf, np.nan])
def test_values_that_diverged_in_both_runs_are_the_same(tmp_path: Path, lost: float) -> None:
    values = {**VALUES, "kl": [0.1, lost, 0.12, 0.11]}
    runs = [write(tmp_path / name, values) for name in ("a", "b")]
    (line,) = compare_runs(runs).identical
    assert line.startswith("b: 2 values are the same as in a, because both studies have these")
    other = write(tmp_path / "c", {**values, "kl": [0.1, lost, 0.12, 0.2]})
    (line,) = compare_runs([runs[0], other]).identical
    assert line.startswith("c: 1 value")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"data__name": "grid25"},
            "data.name differs: the values are distances to different data",
        ),
        (
            {"diffusion__sigma_min": 0.1},
            "diffusion.sigma_min differs: the path KL is an integral over the noise levels",
        ),
    ],
)
def test_impossible_comparisons_state_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    runs = [write(tmp_path / "a", VALUES), write(tmp_path / "b", OTHER, **change)]
    comparison = compare_runs(runs)
    assert comparison.impossible == (f"b and a: path_kl: {reason}",)
    assert comparison.differences == ()
    assert reason in comparison.page()


def test_an_axis_of_one_run_matches_the_value_of_the_other(tmp_path: Path) -> None:
    wide = write(tmp_path / "a", VALUES, {"discriminator.width": 8})
    wider = {name: [value + 0.1 for value in numbers] for name, numbers in VALUES.items()}
    write(wide, wider, {"discriminator.width": 16}, discriminator__width=[8, 16])
    plain = write(tmp_path / "b", OTHER)
    frame = compare_runs([wide, plain]).frame()
    gaps = np.subtract(OTHER["kl"], VALUES["kl"])
    assert line(frame, "kl")["difference"] == pytest.approx(gaps.mean())
    assert "width 8" in line(frame, "kl")["reference_setting"]


def test_values_that_no_trial_shares_are_compared_at_their_best(tmp_path: Path) -> None:
    several = write(tmp_path / "a", VALUES, {"discriminator.width": 8})
    write(several, OTHER, {"discriminator.width": 16}, discriminator__width=[8, 16])
    plain = write(tmp_path / "b", OTHER, discriminator__width=32)
    comparison = compare_runs([several, plain])
    frame = comparison.frame()
    assert set(frame[frame["objective"] != "base"]["kind"]) == {"best models"}
    assert "differ only in discriminator.width are not matched" in " ".join(comparison.impossible)


def test_other_bases_are_compared_by_values(tmp_path: Path) -> None:
    runs = [write(tmp_path / "a", VALUES), write(tmp_path / "b", OTHER, base__std_scale=1.2)]
    values = line(compare_runs(runs).frame(), "kl")
    gaps = np.subtract(OTHER["kl"], VALUES["kl"])
    assert values["difference"] == pytest.approx(gaps.mean())
    assert values["difference_se"] == pytest.approx(np.sqrt(gaps.var(ddof=1) / 4 + 2 * ERROR**2))


def test_runs_without_rows_are_named_and_fewer_than_two_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", VALUES), write(tmp_path / "b", OTHER, seed=1)
    (tmp_path / "empty" / "rows").mkdir(parents=True)
    comparison = compare_runs([one, tmp_path / "empty", two])
    assert [run.label for run in comparison.runs] == ["a", "b"]
    assert comparison.impossible[0].startswith("empty: ")
    with pytest.raises(RunRefusedError, match="at least two runs with rows, but 1 of 2"):
        compare_runs([one, tmp_path / "empty"])
    with pytest.raises(NotARunError):
        compare_runs([one, tmp_path / "nowhere"])


def test_command_and_python_give_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write(tmp_path / "a", VALUES), write(tmp_path / "b", OTHER, fit__learning_rate=0.01)]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "fit.learning_rate" in shown
    comparison = dgray.compare(runs)
    stored = pd.read_parquet(tmp_path / "out" / "compare.parquet")
    pd.testing.assert_frame_equal(stored, comparison.differences, check_dtype=False)
    page = (tmp_path / "out" / "compare.html").read_text("utf-8")
    assert "<svg" in page
    assert not any(f"{scheme}://" in page.replace("http://www.w3.org", "") for scheme in ("http",))
    assert "fit.learning_rate" in str(comparison)
    assert "<pre" in comparison._repr_html_()
    assert main(["compare", str(runs[0])]) == 2
