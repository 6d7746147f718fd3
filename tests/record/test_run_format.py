"""Run folders of other versions or formats are resumed or refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import dgray
from dgray.cli import report
from dgray.config.reading.load import load_study
from dgray.errors import RunRefusedError
from dgray.plan.plan import Plan, make_plan
from dgray.record.open_run import open_run
from dgray.record.run_files import RunFiles
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import RUN_FORMAT, RunMark, mark_here, read_mark
from dgray.record.seal import sealed_json
from dgray.record.storage.working_copy import reading
from tests.engine.fake_trial import ARTIFACTS, fake_trial, make_trial
from tests.search.analytic import STUDY as SEARCH

GRID = "{name: tiny, data: {kind: mixture, name: ring8}, base: {kind: wrong_mixture}}"
RUN = Path("runs/tiny")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(text: str = GRID) -> Plan:
    Path("tiny.yaml").write_text(text)
    return make_plan(load_study(Path("tiny.yaml"), ["name=tiny"]))


def write_rows() -> None:
    RunFolder(RUN).write_result(next(iter(fake_trial(make_trial("kl-1"), ARTIFACTS))))


def begin(text: str = GRID, *, with_rows: bool = True) -> dict[str, Any]:
    """A run of these versions; what its run.json holds."""
    open_run(plan(text), None, fresh=False).close()
    if with_rows:
        write_rows()
    return asdict(mark())


def mark() -> RunMark:
    mark = read_mark(RunFiles(RUN))
    assert mark is not None
    return mark


def rewrite(**changes: Any) -> None:
    replace(mark(), **changes).write(RunFiles(RUN))


def resume(text: str = GRID) -> None:
    open_run(plan(text), None, fresh=False).close()


def test_a_run_with_the_same_format_and_versions_is_resumed() -> None:
    installed = {"dgray": dgray.__version__, "torch": version("torch")}
    assert begin() == {"format": RUN_FORMAT, "versions": installed}
    resume()


def test_a_search_also_needs_the_same_optuna() -> None:
    assert begin(SEARCH)["versions"]["optuna"] == version("optuna")
    rewrite(versions={**mark_here(["torch"]).versions, "optuna": "1.2.3"})
    with pytest.raises(RunRefusedError, match=rf"optuna 1.2.3 there, {version('optuna')} here"):
        resume(SEARCH)


@pytest.mark.parametrize("package", ["dgray", "torch"])
def test_rows_of_another_version_are_refused_and_not_changed(package: str) -> None:
    versions = begin()["versions"]
    rewrite(versions=versions | {package: "0.0.7"})
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    with pytest.raises(RunRefusedError) as refused:
        resume()
    message = str(refused.value)
    assert message.startswith("runs/tiny: rows of different versions are never mixed")
    assert f"{package} 0.0.7 there, {versions[package]} here" in message
    assert f"Install {package}==0.0.7, or start a new run beside it with --fresh" in message
    after = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    assert {p: c for p, c in after.items() if p.name != ".lock"} == {
        p: c for p, c in before.items() if p.name != ".lock"
    }
    fresh = open_run(plan(), None, fresh=True)
    assert fresh.folder.path == Path("runs/tiny-2")
    fresh.close()


def test_versions_do_not_matter_before_anything_was_computed() -> None:
    versions = begin(with_rows=False)["versions"]
    rewrite(versions=versions | {"torch": "0.0.7"})
    resume()
    assert mark().versions == versions


def test_a_later_format_is_neither_resumed_nor_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin()
    rewrite(format=RUN_FORMAT + 1, versions={"dgray": "99.0"})
    message = (
        rf"has format {RUN_FORMAT + 1} \(dgray 99.0\).* up to {RUN_FORMAT}; install dgray 99.0"
    )
    with pytest.raises(RunRefusedError, match=message):
        resume()
    with pytest.raises(RunRefusedError, match=message), reading(RUN):
        pass
    assert report.main([str(RUN)]) == 2
    assert "install dgray 99.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "versions": {}}']
)
def test_a_damaged_run_json_is_restored_with_the_versions_of_the_provenance(
    content: str,
) -> None:
    versions = begin()["versions"]
    for library_versions, is_same in ((versions, True), (versions | {"torch": "0.0.7"}, False)):
        (RUN / "run.json").write_text(content)
        sessions = {"sessions": [{"versions": {"python": "3.11", **library_versions}}]}
        RunFiles(RUN).write_record("provenance.json", partial(sealed_json, sessions))
        if is_same:
            run = open_run(plan(), None, fresh=False)
            assert [line.partition(":")[0] for line in run.folder.left_out] == ["run.json"]
            run.close()
            assert mark() == mark_here(["torch"])
            assert (RUN / "damaged/run.json").read_text() == content
        else:
            with pytest.raises(RunRefusedError, match=r"torch 0\.0\.7 there"):
                resume()


def test_a_run_whose_versions_are_lost_is_refused() -> None:
    begin()
    (RUN / "run.json").write_text("")
    with pytest.raises(RunRefusedError, match=r"neither run\.json nor provenance\.json"):
        resume()


@pytest.mark.parametrize("run_json", [None, {"format": 1}])
def test_a_run_of_an_older_format_is_resumed_and_keeps_its_format(
    run_json: dict[str, Any] | None,
) -> None:
    versions = begin()["versions"]
    unsealed = "\n".join((RUN / "study.lock.yaml").read_text().splitlines()[:-1])
    for library_versions, is_same in ((versions, True), (versions | {"torch": "0.0.7"}, False)):
        (RUN / "study.lock.yaml").write_text(unsealed)
        (RUN / "planned.json").unlink()
        (RUN / "run.json").unlink()
        if run_json is not None:
            text = json.dumps({**run_json, "versions": library_versions})
            (RUN / "run.json").write_text(text)
        session = {"versions": {"python": "3.11", **library_versions}}
        (RUN / "provenance.json").write_text(json.dumps({"sessions": [session]}))
        if is_same:
            run = open_run(plan(), None, fresh=False)
            assert run.folder.left_out == ()
            run.close()
            assert mark().format == 1
        else:
            with pytest.raises(RunRefusedError, match=r"torch 0\.0\.7 there"):
                resume()
