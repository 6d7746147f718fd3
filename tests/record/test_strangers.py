"""Run folders from someone else: names from files build no paths, and no link is followed out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dgray import files
from dgray.cli import report
from dgray.cli.sample_output import SampleOutput
from dgray.errors import RecordError, RunRefusedError
from dgray.files import make_folder
from dgray.record.inspect import check_records, record_names
from dgray.record.provenance import read_provenance
from dgray.record.row import Row
from dgray.record.row_schema import to_table
from dgray.record.run_files import RunFiles
from dgray.record.run_folder import RunFolder
from dgray.record.run_lock import RunLock, is_locked
from dgray.record.tables import Tables
from tests.engine.fake_trial import ARTIFACTS, fake_trial, make_trial

ROWS = next(iter(fake_trial(make_trial("kl-1"), ARTIFACTS))).rows
PART = "rows/kl-1-000002.parquet"


def older_run(folder: Path, change: Callable[[pa.Table], pa.Table] = lambda table: table) -> Path:
    """A run of an older version, whose rows have no checksum, after a change of its table."""
    (folder / "rows").mkdir(parents=True)
    pq.write_table(change(to_table(ROWS, Row)), folder / PART)
    return folder


def with_column(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        return table.set_column(index, name, pa.array([value] * len(table)))

    return change


def test_rows_of_an_older_version_are_read(tmp_path: Path) -> None:
    run = RunFolder(older_run(tmp_path))
    assert [Row.from_columns(row) for row in run.row_table().to_pylist()] == list(ROWS)
    assert run.left_out == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.slice(0, 0),
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),
        lambda table: table.drop_columns(["trial"]),
        with_column("trial", "../../../tmp/stranger"),
        with_column("trial", "kl-2"),
        with_column("trial", None),
        with_column("epoch", 5),
        with_column("epoch", "two"),
        with_column("axes", "{"),
        with_column("axes", "[" * 100_000),
        with_column("axes", "[1]"),
        with_column("status", "excellent"),
        with_column("path_kl", "low"),
        with_column("path_kl_bins", 1.0),
        lambda table: table.append_column("extra", pa.array([{"a": 1}] * len(table))),
        lambda table: table.append_column("path_kl", table["path_kl"]),
    ],
)
def test_rows_without_checksum_are_checked_by_their_content(
    change: Callable[[pa.Table], pa.Table], tmp_path: Path
) -> None:
    run = RunFolder(older_run(tmp_path, change))
    assert run.row_table().num_rows == 0
    (line,) = run.left_out
    assert line.startswith(PART)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("provenance.json", b""),
        ("provenance.json", b"[]"),
        ("provenance.json", b"[" * 100_000),
        ("run.json", b'{"format": 1, "versions": {}}'),
        ("run.json", b'{"format": 1e999, "versions": {"dgray": "1"}}'),
        ("study.lock.yaml", b"- a list"),
        ("study.lock.yaml", b"a: [1"),
        ("study.lock.yaml", b"\xff\xfe"),
        ("checkpoints/kl-1-000002.safetensors", b""),
        ("checkpoints/kl-1-000002.safetensors", b"\xff" * 100),
        ("planned.json", b"{}"),
        ("search/kl-1/000000-asked.json", b"[]"),
    ],
)
def test_other_records_without_checksum_are_parsed(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = older_run(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (state,) = check_records(RunFolder(tmp_path), [name])
    assert state.reason is not None


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    run = older_run(tmp_path)
    (run / PART).unlink()
    os.mkfifo(run / PART)
    folder = RunFolder(run)
    assert folder.row_table().num_rows == 0
    assert folder.left_out == (f"{PART}: damaged: it is not a regular file",)


@pytest.mark.parametrize(
    "name", ["rows", "figures", "tensorboard", "report.html", "report.parquet", "study.lock.yaml"]
)
def test_a_link_that_leaves_the_folder_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, outside = older_run(tmp_path / "run"), tmp_path / "outside"
    if name == "rows":
        shutil.move(run / "rows", outside)
    elif "." in name:
        outside.write_text("mine")
    else:
        outside.mkdir()
        (outside / "finding.svg").write_text("mine")
    (run / name).symlink_to(outside)
    assert report.main([str(run)]) == 2
    # Of the folder rows, the first record is what is read.
    path, target = (p / Path(PART).name if name == "rows" else p for p in (run / name, outside))
    assert f"{path}: must lie in {run}, but leads to {target}" in capsys.readouterr().err
    kept = outside / "finding.svg" if name in ("figures", "tensorboard") else outside
    assert kept.is_dir() or kept.read_text() == "mine"
    if outside.is_dir():
        assert len(os.listdir(outside)) == 1


@pytest.mark.parametrize("name", ["../outside", "rows/../../outside", "/etc/passwd"])
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    run = RunFiles(tmp_path / "run")
    for access in (lambda: run.write(name, b""), lambda: run.read(name), lambda: run.delete(name)):
        with pytest.raises(RunRefusedError, match="must lie in "):
            access()
    assert os.listdir(tmp_path) == []


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    older_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert RunFolder(tmp_path / "link").row_table().num_rows == len(ROWS)


def test_parts_of_samples_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/samples.npz.parts").symlink_to(tmp_path / "outside")
    with pytest.raises(RunRefusedError, match="but leads to"):
        SampleOutput(tmp_path / "own/samples.npz", range(1), "a model")
    assert os.listdir(tmp_path / "outside") == []


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(precious)
    with pytest.raises(RunRefusedError, match="not a link"):
        RunLock(tmp_path / "run")
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_not_another_process(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(RunRefusedError, match=r"needs a file system with locks") as refused:
        RunLock(tmp_path)
    assert os.strerror(number) in str(refused.value)


def test_a_lock_file_that_was_replaced_before_it_was_locked_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = fcntl.flock, list[int]()

    def replace_then_lock(file: Any, operation: int) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", replace_then_lock)
    lock = RunLock(tmp_path)
    assert len(calls) == 2
    assert is_locked(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)


def test_a_reader_that_looks_at_the_lock_does_not_keep_a_driver_out(tmp_path: Path) -> None:
    reader = (tmp_path / ".lock").open("w+b")
    fcntl.flock(reader, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, reader.close)
    timer.start()
    RunLock(tmp_path).release()
    timer.join()


def test_a_killed_session_is_not_running(tmp_path: Path) -> None:
    sessions = [{"outcome": "running"}, {"outcome": "complete"}, {"outcome": "running"}]
    (tmp_path / "provenance.json").write_text(json.dumps({"sessions": sessions}))

    def outcomes() -> list[str]:
        return [s["outcome"] for s in read_provenance(RunFiles(tmp_path))["sessions"]]

    lock = RunLock(tmp_path)
    assert outcomes() == ["killed", "complete", "running"]
    lock.release()
    assert outcomes() == ["killed", "complete", "killed"]


def test_the_parents_of_new_folders_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a/b")
    assert synced == [tmp_path, tmp_path / "a"]
    files.write_atomically(tmp_path / "a/c/d", lambda file: file.write(b""))
    assert synced[2:] == [tmp_path / "a", tmp_path / "a/c"]


def test_a_part_is_small_and_has_no_columns_without_values(tmp_path: Path) -> None:
    tables = Tables(RunFiles(tmp_path), "rows", Row)
    tables.write("kl-1-000002", ROWS)
    schema = pq.read_schema(tmp_path / PART)
    assert "fid" not in schema.names
    assert (tmp_path / PART).stat().st_size < 10_000  # was 50 KB
    assert tables.read("kl-1-000002").schema.names == to_table(ROWS, Row).schema.names


def test_a_record_that_is_misplaced_is_named(tmp_path: Path) -> None:
    tables = Tables(RunFiles(tmp_path), "rows", Row)
    tables.write("kl-1-000002", ROWS)
    shutil.copy(tmp_path / PART, tmp_path / "rows/kl-1-000005.parquet")
    with pytest.raises(RecordError, match=r"kl-1-000005.*it was written as rows/kl-1-000002"):
        tables.read("kl-1-000005")
    assert len(record_names(RunFolder(tmp_path))) == 5
