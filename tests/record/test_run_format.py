"""Run folders of other versions or formats are resumed or refused."""

from __future__ import annotations

import json
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
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import RUN_FORMAT, mark_here, refuse_other_format
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
    content: dict[str, Any] = json.loads((RUN / "run.json").read_text())
    return content


def rewrite(**changes: object) -> None:
    content = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps(content | changes))


def resume(text: str = GRID) -> None:
    open_run(plan(text), None, fresh=False).close()


def test_a_run_with_the_same_format_and_versions_is_resumed() -> None:
    here = {"dgray": dgray.__version__, "torch": version("torch")}
    assert begin() == {"format": RUN_FORMAT, "versions": here}
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
    assert json.loads((RUN / "run.json").read_text())["versions"] == versions


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
    "content", ["{", "[]", '{"format": 1}', '{"format": "x", "versions": {}}']
)
def test_an_invalid_run_json_is_refused(content: str) -> None:
    begin()
    (RUN / "run.json").write_text(content)
    with pytest.raises(RunRefusedError, match="must hold a format and versions"):
        refuse_other_format(RUN, RUN)


def test_a_folder_of_format_0_is_resumed_with_the_versions_of_its_provenance() -> None:
    versions = begin()["versions"]
    for library_versions, is_same in ((versions, True), (versions | {"torch": "0.0.7"}, False)):
        (RUN / "run.json").unlink()
        session = {"versions": {"python": "3.11", **library_versions}}
        (RUN / "provenance.json").write_text(json.dumps({"sessions": [session]}))
        if is_same:
            resume()
            assert json.loads((RUN / "run.json").read_text())["format"] == RUN_FORMAT
        else:
            with pytest.raises(RunRefusedError, match=r"torch 0\.0\.7 there"):
                resume()
