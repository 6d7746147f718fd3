"""``dgray doctor``: a machine that can run studies, and one that lacks something."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import NoReturn

import pytest

from dgray.cli.main import main
from dgray.metrics.features.inception_file import STATE_DICT, TORCHSCRIPT


def lines(capsys: pytest.CaptureFixture[str], status: int) -> list[str]:
    assert main(["doctor", "--no-ray"]) == status
    return capsys.readouterr().out.splitlines()


def test_optional_parts_that_are_missing_are_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DGRAY_INCEPTION", str(tmp_path))
    (tmp_path / TORCHSCRIPT.name).touch()
    shown = lines(capsys, 0)
    assert shown[-1] == "no problems"
    inception = [line for line in shown if "Inception (" in line]
    assert [line.split()[0] for line in inception] == ["ok", "optional"]
    assert f"no file {tmp_path / STATE_DICT.name}" in inception[1]


def test_all_extras_for_users_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    extras = {*project["project"]["optional-dependencies"]} - {"benchmarks", "docs", "test", "dev"}
    shown = " ".join(lines(capsys, 0))
    assert {extra for extra in extras if f"extra {extra}:" not in shown} == set()


def test_places_that_cannot_be_written_are_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(dir: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    shown = lines(capsys, 1)
    problems = [line for line in shown if line.startswith("problem")]
    assert [line.split(":")[0].split(maxsplit=1)[1] for line in problems] == [
        "runs", "cache", "temporary files"
    ]  # fmt: skip
    assert "cannot be written (Permission denied); give another folder with --out" in problems[0]


def test_little_shared_memory_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dgray.cli.machine_checks.MIN_SHARED_MEMORY", 1e18)
    assert any(line.startswith("problem  shared memory") for line in lines(capsys, 1))
