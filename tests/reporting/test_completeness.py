"""Incomplete runs are named as such on the page, in the terminal and in the Parquet metadata."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dgray.cli.report import main
from dgray.errors import RecordError
from dgray.record.planned import Planned, PlannedTrial
from dgray.record.row import CheckpointResult, Row
from dgray.record.run_files import PLANNED_FILE, RunFiles
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import RunMark
from dgray.record.seal import sealed_json
from dgray.record.tables import Tables
from dgray.reporting.build import read_table
from dgray.reporting.completeness import gaps
from tests.reporting.synthetic import Member, row, write_run

KL = Member("kl", {"fit.objective": "kl"})
PLANNED = Planned(
    trials=(
        PlannedTrial(id=Member("base", {}).id, label="base", epochs=(0,), rows=1),
        PlannedTrial(id=KL.id, label="kl", epochs=(5, 20), rows=2),
    )
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run of one trained trial and the base."""
    parts = [(Member("base", {}), 0, [row(Member("base", {}), kl=0.5)])]
    parts += [(KL, e, [row(KL, e, w, kl=0.4, kl_se=0.1) for w in (0.5, 1.0)]) for e in (5, 20)]
    results = (
        CheckpointResult(
            trial=member.id, epoch=epoch, rows=tuple(rows), clouds=(), losses=(), state=b"state"
        )
        for member, epoch, rows in parts
    )
    folder = write_run(tmp_path / "run", results)
    PLANNED.write(RunFolder(folder).files)
    return folder


def reasons(folder: Path) -> tuple[str, ...]:
    return gaps(RunFolder(folder), read_table(folder), ())


def test_a_complete_run_has_no_banner(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert "incomplete" not in capsys.readouterr().out
    assert 'role="alert"' not in (run / "report.html").read_text("utf-8")
    metadata = pq.read_schema(run / "report.parquet").metadata
    assert json.loads(metadata[b"dgray.incomplete"]) == []


def test_a_deleted_rows_part_is_named_everywhere(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / f"rows/{KL.id}-000020.parquet").unlink()
    assert main([str(run)]) == 0
    reason = f"1 of 3 checkpoints lack rows: kl at epoch 20 (rows/{KL.id}-000020.parquet)"
    assert capsys.readouterr().out.startswith(f"incomplete run: {reason}\n")
    page = (run / "report.html").read_text("utf-8")
    assert page.index(reason) < page.index("<h1>")
    metadata = pq.read_schema(run / "report.parquet").metadata
    assert json.loads(metadata[b"dgray.incomplete"]) == [reason]


def without_plan(folder: Path) -> None:
    """Earlier versions did not record the plan of a run."""
    (folder / PLANNED_FILE).unlink()
    RunMark(1, {"dgray": "0"}).write(RunFiles(folder))


def _delete_rows(folder: Path) -> None:
    without_plan(folder)
    (folder / f"rows/{KL.id}-000020.parquet").unlink()


def _interrupt(folder: Path) -> None:
    without_plan(folder)
    sessions = [{"outcome": "complete"}, {"outcome": "interrupted"}]
    record = partial(sealed_json, {"sessions": sessions})
    RunFolder(folder).files.write_record("provenance.json", record)


def _delete_trial(folder: Path) -> None:
    for path in folder.rglob(f"{KL.id}-*"):
        path.unlink()


def _shorten(folder: Path) -> None:
    path = folder / f"rows/{KL.id}-000005.parquet"
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.slice(0, 1), path)


def _fail(folder: Path) -> None:
    (folder / f"rows/{KL.id}-000020.parquet").unlink()
    rows = [row(KL, 20, w, status="failed", reason="loss is NaN") for w in (0.5, 1.0)]
    Tables(RunFiles(folder), "rows", Row).write(f"{KL.id}-failed", rows)


def _damage_plan(folder: Path) -> None:
    (folder / PLANNED_FILE).write_bytes(b'{"trials": [{"id": 3}]}')


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_delete_rows, f"1 checkpoint lacks rows: rows/{KL.id}-000020.parquet"),
        (_interrupt, "the last session ended as interrupted"),
        (_delete_trial, "2 of 3 checkpoints lack rows"),
        (_shorten, "1 of 3 checkpoints lack rows: kl at epoch 5"),
        (_fail, "1 of 2 trials failed"),
        (_damage_plan, f"{PLANNED_FILE} is damaged"),
    ],
)
def test_every_kind_of_gap_has_a_reason(
    run: Path, damage: Callable[[Path], None], expected: str
) -> None:
    damage(run)
    (reason,) = reasons(run)
    assert reason.startswith(expected)


def test_files_left_out_are_named() -> None:
    run = RunFolder(Path("unused"))
    run.files.leave_out("rows/b.parquet", RecordError("its checksum differs"))
    run.files.leave_out("rows/a.parquet", RecordError("it is empty"))
    assert run.left_out == (
        "rows/a.parquet: it is empty",
        "rows/b.parquet: its checksum differs",
    )


def test_a_figure_that_fails_is_named_and_the_report_survives(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")

    def fail(*_: object) -> None:
        raise ValueError("no such <thing>")

    monkeypatch.setattr("dgray.reporting.figures.epochs.reference_of", fail)
    assert main([str(copy)]) == 0
    assert (
        "the figure finding (Overfitting against epochs) could not be drawn: ValueError: no "
        in (capsys.readouterr().out)
    )
    page = (copy / "report.html").read_text("utf-8")
    assert "no such &lt;thing&gt;" in page
    assert (copy / "figures" / "kl_against_weight.svg").exists()
