"""``dgray list``, ``show`` and ``check`` of runs in an object store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dgray.cli.main import main
from tests.record.storage.conftest import Bucket
from tests.reporting.synthetic import counterexample, write_run


@pytest.mark.usefixtures("in_a_hurry")
def test_runs_of_a_store_are_listed_and_shown_like_those_of_a_folder(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "runs" / "first", counterexample())
    for file in filter(Path.is_file, run.rglob("*")):
        content = file.read_bytes()
        for name in ("first", "second"):
            bucket.put(file.relative_to(run).as_posix(), content, path=f"all/{name}")

    def printed(*arguments: str) -> str:
        assert main([*arguments]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    (local,) = json.loads(printed("list", "--json", str(run)))
    remote = json.loads(printed("list", "--json", bucket.uri("all")))
    assert [overview["place"] for overview in remote] == [
        bucket.uri("all/first"),
        bucket.uri("all/second"),
    ]
    for overview in remote:
        assert overview | {"place": ""} == local | {"place": ""}
    assert local["rows_done"] == 22
    shown = printed("show", bucket.uri("all/first"))
    assert "oscillating" in shown
    checked = printed("check", bucket.uri("all/first"))
    assert "26 records are intact, 0 damaged, 0 missing" in checked
