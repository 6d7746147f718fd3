"""``dgray list`` and ``dgray show``, and the names by which trials are selected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dgray.cli.main import main
from dgray.errors import NoSuchModelError
from dgray.record.planned import Planned, PlannedTrial
from dgray.record.row import CheckpointResult
from dgray.record.run_folder import RunFolder
from dgray.record.run_lock import RunLock
from dgray.reporting.trial_names import find_trial, name_of
from tests.reporting.synthetic import Member, row, write_run

BASE, KL = Member("base", {}), Member("kl", {"fit.objective": "kl", "discriminator.width": 64})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A complete run, one without its last checkpoint, and one that has not begun."""
    parts = [(BASE, 0, [row(BASE, path_kl=0.5)])]
    parts += [
        (KL, e, [row(KL, e, w, path_kl=w, validation_change=w) for w in (0.5, 1.0)])
        for e in (5, 20)
    ]
    results = [
        CheckpointResult(
            trial=member.id, epoch=epoch, rows=tuple(rows), clouds=(), losses=(), state=b"state"
        )
        for member, epoch, rows in parts
    ]
    planned = Planned(
        trials=(
            PlannedTrial(id=BASE.id, label="base", epochs=(0,), rows=1),
            PlannedTrial(id=KL.id, label="kl, width 64", epochs=(5, 20), rows=2),
        )
    )
    for name, count in (("a", 3), ("b", 2)):
        folder = write_run(tmp_path / "runs" / name, iter(results[:count]))
        planned.write(RunFolder(folder).files)
    planned.write(RunFolder(tmp_path / "runs" / "c").files)
    (tmp_path / "runs" / "c" / "study.lock.yaml").touch()
    (tmp_path / "runs" / "notes.txt").write_text("no run")
    return tmp_path / "runs"


def listed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[Any]:
    """Return the overviews that ``dgray list`` prints as JSON."""
    assert main(["list", "--json", *arguments]) == status
    overviews: list[Any] = json.loads(capsys.readouterr().out)
    return overviews


def test_many_runs_are_listed_with_state_and_rows(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {Path(run["place"]).name: run for run in listed(capsys, str(runs))}
    states = {
        name: (run["state"], run["rows_done"], run["rows_planned"]) for name, run in shown.items()
    }
    assert states == {"a": ("complete", 5, 5), "b": ("incomplete", 3, 5), "c": ("empty", 0, 5)}
    assert shown["a"]["best"].startswith("kl width=64, epoch 5, w = 0.5: path KL 0.5")
    size = sum(p.stat().st_size for p in (runs / "a").rglob("*") if p.is_file())
    assert shown["a"]["num_bytes"] == size
    assert main(["list", str(runs)]) == 0
    table = capsys.readouterr().out
    assert "5/5" in table
    assert "incomplete" in table


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_best_model_that_is_the_base_is_named_as_such(
    weight: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"calibrated_sigmas": [0.1, 1.0, 9.0], "calibrated_weights": [0.0, weight, 0.0]}
    rows = [
        (row(BASE, path_kl=0.5),),
        (
            row(KL, 5, 1.0, path_kl=0.7, validation_change=0.2),
            row(KL, 5, None, path_kl=0.5, validation_change=-weight, **columns),
        ),
    ]
    results = [
        CheckpointResult(
            trial=trial[0].trial,
            epoch=trial[0].epoch,
            rows=trial,
            clouds=(),
            losses=(),
            state=b"state",
        )
        for trial in rows
    ]
    write_run(tmp_path / "runs" / "a", iter(results))
    (run,) = listed(capsys, str(tmp_path / "runs"))
    assert run["best"].startswith("kl width=64, epoch 5, calibrated weight")
    assert ("(0 at every noise level: the base)" in run["best"]) == (weight == 0)


def test_a_run_in_use_is_running(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = RunLock(runs / "b")
    (run,) = listed(capsys, str(runs / "b"))
    lock.release()
    assert run["state"] == "running"


def test_a_damaged_run_hides_no_other(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = next((runs / "a" / "rows").glob("kl*5.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    (runs / "b" / "planned.json").write_text("{")
    shown = listed(capsys, str(runs), status=1)
    assert [run["state"] for run in shown] == ["damaged", "incomplete", "empty"]
    assert shown[0]["rows_done"] == 3
    assert any("damaged" in problem for problem in shown[0]["problems"])


def test_show_names_trials_as_they_are_selected(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(runs / "a"), str(runs / "b")]) == 0
    text = capsys.readouterr().out
    assert text.count("kl width=64  ") == 2
    assert "missing: 1 of 3 checkpoints lacks rows" in text.replace("lack rows", "lacks rows")
    labels = {BASE.id: "base", KL.id: "kl, width 64"}
    assert find_trial(labels, "kl width=64") == KL.id


def test_a_place_without_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", str(tmp_path)]) == 2
    assert "there is no run at or below this place" in capsys.readouterr().err


LABELS = {
    "kl-e9a2": "kl, num_real 100, width 4",
    "kl-ebb5": "kl, num_real 100, width 16",
    "cross_entropy-01": "cross_entropy, num_real 100, width 16",
    "oracle-22": "oracle",
    "kl-77aa": "kl, widths [16, 64], learning_rate 0.001",
}


@pytest.mark.parametrize(
    ("text", "trial"),
    [
        ("kl width=4 num_real=100", "kl-e9a2"),
        ("kl num_real=100 width=4.0", "kl-e9a2"),
        ("kl, num_real 100, width 4", "kl-e9a2"),
        ("kl discriminator.width=16", "kl-ebb5"),
        ("fit.objective=kl width=16", "kl-ebb5"),
        ("kl-eb", "kl-ebb5"),
        ("ebb", "kl-ebb5"),
        ("22", "oracle-22"),
        ("oracle", "oracle-22"),
        ("cross_entropy", "cross_entropy-01"),
        ("kl widths=[16, 64]", "kl-77aa"),
        ("learning_rate=1e-3", "kl-77aa"),
    ],
)
def test_a_trial_is_selected_by_what_it_is(text: str, trial: str) -> None:
    assert find_trial(LABELS, text) == trial


@pytest.mark.parametrize("trial", LABELS)
def test_each_name_and_id_selects_its_trial(trial: str) -> None:
    assert find_trial(LABELS, name_of(LABELS[trial])) == trial
    assert find_trial(LABELS, trial) == trial


@pytest.mark.parametrize(
    ("text", "message"),
    [("kl", "matches 3: kl num_real=100 width=4"), ("kl width=5", "matches none"), ("", "none")],
)
def test_a_text_that_selects_no_single_trial_is_refused(text: str, message: str) -> None:
    with pytest.raises(NoSuchModelError, match=message):
        find_trial(LABELS, text)
