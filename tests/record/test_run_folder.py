"""Run folder: atomic files, rows last, missing checkpoints."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dgray.catalogue import MetricSpec, with_errors
from dgray.files import remove_partial_files, write_atomically
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row, column_names
from dgray.record.row_schema import arrow_schema
from dgray.record.run_folder import RunFolder
from tests.engine.fake_trial import ARTIFACTS, fake_trial, make_trial


def results(name: str = "kl-1") -> list[CheckpointResult]:
    return list(fake_trial(make_trial(name), ARTIFACTS))


def test_schema_has_every_column_with_its_type_unit_and_meaning() -> None:
    schema = arrow_schema(Row)
    assert schema.names == column_names("identity", "metric", "provenance")
    assert schema.field("trial").type == pa.string()
    assert not schema.field("trial").nullable
    assert schema.field("path_kl").type == pa.float64()
    assert schema.field("path_kl").nullable
    assert schema.field("epoch").type == pa.int64()
    assert schema.field("is_calibrated").type == pa.bool_()
    assert schema.field("path_kl_bins").type == pa.list_(pa.float64())
    assert schema.field("path_kl").metadata[b"unit"] == b"nats"
    assert all(field.metadata[b"doc"] for field in schema)
    assert arrow_schema(Cloud).field("points").type == pa.list_(pa.list_(pa.float64()))
    assert arrow_schema(LossPoint).names == ["trial", "replicate", "epoch", "loss_train"]


def test_rows_are_read_back_from_parquet_bit_for_bit(tmp_path: Path) -> None:
    row = results()[0].rows[0]
    odd = [
        dataclasses.replace(row, metrics={"path_kl": value, "path_kl_bins": [value, -0.0]})
        for value in (0.1 + 0.2, math.nan, math.inf, 5e-324)
    ] + [dataclasses.replace(row, metrics={})]
    result = dataclasses.replace(results()[0], rows=tuple(odd))
    RunFolder(tmp_path).write_result(result)
    (path,) = (tmp_path / "rows").iterdir()
    back = [Row.from_columns(values) for values in pq.read_table(path).to_pylist()]
    assert repr(back) == repr(odd)


WASSERSTEIN = MetricSpec(
    name="w1",
    title="Wasserstein distance",
    label="W1",
    doc="distance to held-out samples",
    unit="m",
)


def test_metrics_of_other_packages_have_columns_that_document_themselves(tmp_path: Path) -> None:
    result = results()[0]
    rows = tuple(
        dataclasses.replace(row, metrics={**row.metrics, "w1": 0.5, "w1_se": 0.1})
        for row in result.rows
    )
    columns = tuple(with_errors(WASSERSTEIN.columns))
    folder = RunFolder(tmp_path)
    folder.write_result(dataclasses.replace(result, rows=rows, columns=columns))
    folder.write_result(results()[1])
    added = folder.read_result("kl-1", result.epoch).columns
    assert [column.name for column in added] == ["w1", "w1_se"]
    for name in ("doc", "unit", "label", "title", "better", "source", "type"):
        assert getattr(added[0], name) == getattr(columns[0], name)
    assert folder.read_result("kl-1", result.epoch).rows == rows
    assert folder.rows()["w1"].notna().sum() == len(rows)


def test_a_metric_without_a_column_is_not_written(tmp_path: Path) -> None:
    result = results()[0]
    row = dataclasses.replace(result.rows[0], metrics={"w1": 0.5})
    with pytest.raises(ValueError, match="columns of the schema only, but got"):
        RunFolder(tmp_path).write_result(dataclasses.replace(result, rows=(row,)))


def test_a_row_without_an_identity_column_is_not_written(tmp_path: Path) -> None:
    result = results()[0]
    row = dataclasses.replace(result.rows[0], sampler=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampler"):
        RunFolder(tmp_path).write_result(dataclasses.replace(result, rows=(row,)))
    assert not (tmp_path / "rows").exists()


def test_files_of_a_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_result(results()[0])
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "checkpoints/kl-1-000002.safetensors",
        "losses/kl-1-000002.parquet",
        "rows/kl-1-000002.parquet",
        "samples/kl-1-000002.parquet",
    ]
    assert folder.clouds().points[0][1].tolist() == [0.0, 1.0]
    assert folder.losses().loss_train[0] == results()[0].losses[0].loss_train


def test_rows_are_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    written: list[str] = []

    def note(path: Path, write: object) -> None:
        written.append(path.parent.name)

    monkeypatch.setattr("dgray.record.run_files.write_atomically", note)
    folder.write_result(results()[0])
    assert written == ["samples", "losses", "checkpoints", "rows"]


def test_completed_epochs_of_trials_with_similar_ids(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.completed_epochs("kl-1") == set()
    for name in ("kl-1", "kl-1-000002", "a-kl-1"):  # ids that begin or end like another
        folder.write_result(results(name)[0])
    folder.write_result(results()[1])
    assert folder.completed_epochs("kl-1") == {2, 5}
    assert folder.completed_epochs("kl-1-000002") == {2}
    assert folder.missing_epochs(make_trial("kl-1")) == [9]
    assert folder.missing_rows([make_trial("kl-1"), make_trial("kl-2")]) == 4 + 12


def test_the_state_is_the_newest_one_up_to_an_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.load_state("kl-1", 9) is None
    for result in results():
        folder.write_result(result)
    assert folder.load_state("kl-1", 9) == (9, results()[2].state)
    assert folder.load_state("kl-1", 7) == (5, results()[1].state)
    assert folder.load_state("kl-1", 1) is None
    (tmp_path / "checkpoints" / "kl-1-000009.safetensors").unlink()
    assert folder.load_state("kl-1", 9) == (5, results()[1].state)
    (tmp_path / "rows" / "kl-1-000005.parquet").unlink()  # rows do not matter
    assert folder.load_state("kl-1", 9) == (5, results()[1].state)
    (tmp_path / "losses" / "kl-1-000005.parquet").unlink()  # they would be missing
    assert folder.load_state("kl-1", 5) == (2, results()[0].state)


def test_failed_rows_stand_for_missing_checkpoints_until_they_are_complete(tmp_path: Path) -> None:
    folder, trial = RunFolder(tmp_path), make_trial("kl-1")
    first, second, third = results()
    folder.write_result(first)
    folder.write_failure(trial, "ValueError: no")
    rows = folder.rows()
    assert rows.groupby("epoch").status.unique().map(list).to_dict() == {
        2: ["ok"],
        5: ["failed"],
        9: ["failed"],
    }
    cells = rows[rows.status == "failed"][["replicate", "epoch", "is_calibrated"]]
    assert len(cells) == len(cells.drop_duplicates()) == 8
    assert folder.completed_epochs("kl-1") == {2}
    folder.write_result(second)
    assert folder.rows().groupby("epoch").status.unique().map(list).to_dict() == {
        2: ["ok"],
        5: ["ok"],
        9: ["failed"],
    }
    folder.write_result(third)
    assert (folder.rows().status == "ok").all()
    assert not (tmp_path / "rows" / "kl-1-failed.parquet").exists()


def test_an_empty_folder_reads_as_empty_tables(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert list(folder.rows().columns) == column_names("identity", "metric", "provenance")
    assert len(folder.rows()) == len(folder.clouds()) == len(folder.losses()) == 0


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_of_a_killed_process_are_ignored_and_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_result(results()[0])
    partial = tmp_path / "rows" / ".kl-1-000005.parquet.0a1b2c3d.partial"
    partial.write_bytes(b"half")
    assert folder.completed_epochs("kl-1") == {2}
    assert len(folder.rows()) == 4
    remove_partial_files(tmp_path)
    assert not partial.exists()
    assert len(folder.rows()) == 4


def test_artifacts_are_stored_by_key(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_artifact("base-1") is None
    folder.write_artifact("base-1", b"\x00weights")
    assert folder.read_artifact("base-1") == b"\x00weights"
