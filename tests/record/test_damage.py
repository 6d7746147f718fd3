"""Damaged, misplaced and foreign records are noticed, left out, and computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgray.cli import report
from dgray.record.inspect import check_records, missing_records, record_names
from dgray.record.open_run import open_run
from dgray.record.run_folder import RunFolder
from dgray.reporting import build
from dgray.reporting.build import read_table
from dgray.reporting.completeness import gaps
from dgray.reporting.searches import read_searches
from tests.record.golden_run import ARTIFACT, damaged, make_run, plan_of, run_session

KINDS = (
    "rows",
    "samples",
    "losses",
    "checkpoints",
    "artifacts",
    "search",
    "run.json",
    "planned.json",
    "provenance.json",
    "study.lock.yaml",
)
READ_BY_REPORTS = {"rows", "samples", "losses", "search"} | {k for k in KINDS if "." in k}


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study with another seed; its trials have other ids."""
    return make_run(tmp_path_factory.mktemp("stranger"), "seed=4")


@pytest.fixture
def run(golden: Path, tmp_path: Path) -> Path:
    return shutil.copytree(golden, tmp_path / "run")


def names_of(folder: Path, kind: str) -> list[str]:
    return [name for name in record_names(RunFolder(folder)) if name.startswith(kind)]


def test_an_undamaged_run_is_intact(golden: Path) -> None:
    run = RunFolder(golden)
    states = list(check_records(run, record_names(run)))
    assert {state.name.partition("/")[0] for state in states} == set(KINDS)
    assert all(state.has_checksum and state.reason is None for state in states)


@st.composite
def mutations(draw: st.DrawFn, content: bytes, others: list[bytes]) -> bytes:
    """Another content: one bit flipped, cut, longer, partly overwritten, or another record."""
    size = len(content)
    kind = draw(st.sampled_from(["flip", "cut", "append", "overwrite", "erase", "other"]))
    offset = draw(st.integers(0, size - 1))
    if kind == "flip":
        flipped = content[offset] ^ (1 << draw(st.integers(0, 7)))
        return content[:offset] + bytes([flipped]) + content[offset + 1 :]
    if kind == "cut":
        return content[:offset]
    if kind == "append":
        return content + draw(st.binary(min_size=1, max_size=8))
    if kind == "overwrite":
        new = draw(st.binary(min_size=1, max_size=16))
        return content[:offset] + new + content[offset + len(new) :]
    if kind == "erase":
        return content[:offset] + content[offset + draw(st.integers(1, 64)) :]
    return draw(st.sampled_from(others))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_every_mutation_is_noticed(
    kind: str, golden: Path, stranger: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(names_of(golden, kind)))
    path = golden / name
    content = path.read_bytes()
    folders = (golden, stranger)
    others = [(folder / n).read_bytes() for folder in folders for n in names_of(folder, kind)]
    mutated = data.draw(mutations(content, [other for other in others if other != content]))
    try:
        path.write_bytes(mutated)
        (state,) = check_records(RunFolder(golden), [name])
        assert (state.reason is None) == (mutated == content)
    finally:
        path.write_bytes(content)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def metrics(folder: Path) -> pd.DataFrame:
    rows = RunFolder(folder).rows().drop(columns=["host", "finished_at"])
    return rows.sort_values(["trial", "epoch", "replicate", "guidance_weight"], ignore_index=True)


def damage(kind: str, change: str, run: Path) -> Iterator[str]:
    """Damage the second record of a kind; yield its name."""
    name = names_of(run, kind)[:2][-1]
    if change == "flipped":
        flip(run / name)
    else:
        (run / name).write_bytes(b"")
    yield name


@pytest.mark.parametrize(
    ("kind", "change"), [(kind, ("flipped", "empty")[i % 2]) for i, kind in enumerate(KINDS)]
)
def test_a_resumed_study_computes_damaged_records_again(
    kind: str, change: str, run: Path, golden: Path, tmp_path: Path
) -> None:
    (name,) = damage(kind, change, run)
    broken = (run / name).read_bytes()
    plan = plan_of(tmp_path)
    opened = open_run(plan, run, fresh=False)
    assert [line.partition(": ")[0] for line in opened.folder.left_out] == [name]
    computed = run_session(plan, opened)
    opened.close()
    assert list(damaged(run)) == []
    assert (run / "damaged" / name).read_bytes() == broken
    pd.testing.assert_frame_equal(metrics(run), metrics(golden), check_exact=True)
    for state in names_of(golden, "checkpoints"):
        assert (run / state).read_bytes() == (golden / state).read_bytes()
    if kind in ("rows", "samples", "losses", "checkpoints"):
        trial, _, epoch = Path(name).stem.rpartition("-")
        assert computed[0] == (trial, int(epoch))  # from the state before it
    else:
        assert computed == []


@pytest.mark.parametrize("kind", sorted(READ_BY_REPORTS))
def test_a_report_leaves_damaged_records_out_and_names_them(kind: str, run: Path) -> None:
    (name,) = damage(kind, "flipped", run)
    folder = RunFolder(run)
    table = build.table_of(folder)
    searches = read_searches(folder, table)
    build.source_of(folder)
    assert any(name in reason for reason in gaps(folder, table, searches))


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_file_is_noticed_and_computed_again(
    kind: str, run: Path, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = names_of(run, kind)[:2][-1]
    (run / name).unlink()
    folder = RunFolder(run)
    table = build.table_of(folder)
    assert any(name in reason for reason in gaps(folder, table, read_searches(folder, table)))
    assert report.main([str(run), "--check"]) == 1
    assert f"{name}: missing\n" in capsys.readouterr().out
    opened = open_run(plan_of(tmp_path), run, fresh=False)
    lines = [line for line in opened.folder.left_out if line.startswith(name)]
    assert lines == [f"{name}: missing"]
    run_session(plan_of(tmp_path), opened)
    opened.close()
    assert report.main([str(run), "--check"]) == 0
    pd.testing.assert_frame_equal(metrics(run), metrics(golden), check_exact=True)


def test_listed_names_that_are_no_records_are_ignored(run: Path) -> None:
    folder = RunFolder(run)
    name = names_of(run, "rows")[0]
    trial, _, epoch = Path(name).stem.rpartition("-")
    result = folder.read_result(trial, int(epoch))
    listed = ["../out", "/etc/none", "losses/../../out.parquet", "losses/a-000001.parquet"]
    folder._rows.write(Path(name).stem, result.rows, files=listed)
    assert missing_records(folder) == ["losses/a-000001.parquet"]


def test_a_damaged_state_is_replaced_by_an_older_one(run: Path) -> None:
    first, second = names_of(run, "checkpoints")[:2]
    trial = Path(first).stem.rpartition("-")[0]
    flip(run / second)
    folder = RunFolder(run)
    state = folder.load_state(trial, 20)
    assert state is not None
    assert state[0] == 10
    assert folder.left_out == (f"{second}: damaged: its checksum does not match its content",)


def test_a_damaged_artifact_is_missing(run: Path) -> None:
    assert RunFolder(run).read_artifact("likelihood-1") == ARTIFACT
    flip(run / "artifacts/likelihood-1")
    folder = RunFolder(run)
    assert folder.read_artifact("likelihood-1") is None
    assert len(folder.left_out) == 1


@pytest.mark.parametrize("kind", ["rows", "checkpoints", "search", "run.json"])
def test_the_record_of_another_run_is_noticed(kind: str, run: Path, stranger: Path) -> None:
    name, other = names_of(run, kind)[0], names_of(stranger, kind)[0]
    shutil.copy(stranger / other, run / name)
    assert list(damaged(run)) == [name]
    if kind != "run.json":  # also under its own name
        (run / other).parent.mkdir(exist_ok=True)
        shutil.copy(stranger / other, run / other)
        (state,) = check_records(RunFolder(run), [other])
        assert state.reason is not None
        assert "of another study: study s, seed 4" in state.reason


def test_the_check_command_names_damaged_records(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(run), "--check"]) == 0
    assert "0 damaged" in capsys.readouterr().out
    (name,) = damage("checkpoints", "flipped", run)
    assert report.main([str(run), "--check"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: damaged: its checksum does not match its content\n")
    assert "1 damaged" in out
    assert not (run / "report.html").exists()


def test_versions_that_were_removed_are_noticed(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**content, "versions": {}}))
    assert list(damaged(run)) == ["run.json"]


def test_all_of_these_at_once_do_not_prevent_a_table(run: Path) -> None:
    for kind in KINDS:
        if kind != "rows":
            for name in names_of(run, kind):
                (run / name).write_bytes(b"")
    assert len(read_table(run).rows) == len(metrics(run))
