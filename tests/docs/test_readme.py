"""Test that the commands in the documents are consistent, exist, and accept their arguments."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgray.cli.study import main

ROOT = Path(__file__).parents[2]
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -e"
STUDY = f"{INSTALL} . && .venv/bin/python -m dgray.study studies/overfit.yaml"
TESTS = f"{INSTALL} '.[test]' && .venv/bin/python -m pytest"
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "cluster/*.md", "studies/*.yaml")
    for path in sorted(ROOT.glob(pattern))
]
_COMMAND = re.compile(r"python[\d.]* -m (dgray[\w.]*)([^\n`&|;]*)")
_PLACEHOLDERS = {"STUDY.yaml", "RUN"}


def fenced_lines(text: str) -> Iterator[str]:
    """Yield the lines inside fenced blocks."""
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            yield line


def commands() -> list[tuple[str, str]]:
    """Return (module, arguments) of every ``python -m dgray...`` in the documents."""
    return sorted(
        {
            (module.rstrip("."), rest.partition("#")[0].strip())
            for path in DOCUMENTS
            for module, rest in _COMMAND.findall(path.read_text("utf-8"))
        }
    )


def study_arguments() -> list[list[str]]:
    """Return the arguments of every command that runs a study file, split as by a shell."""
    split = [shlex.split(rest) for module, rest in commands() if module == "dgray.study"]
    return [arguments for arguments in split if arguments and arguments[0] not in _PLACEHOLDERS]


def test_the_readme_has_two_commands_each_on_one_line_and_no_other_way_to_install() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    installing = [line for line in fenced_lines(text) if "install" in line]
    assert installing == [STUDY, TESTS]
    assert text.count("pip install") == 2


def test_the_commands_precede_the_figure_on_the_first_screen() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    figure = next(number for number, line in enumerate(lines) if line.startswith("!["))
    assert lines.index(STUDY) < lines.index(TESTS) < figure <= 40


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert f'install="{INSTALL}"' in script.replace("'", '"')
    for command in (STUDY, TESTS):
        assert f"$install{command.removeprefix(INSTALL)}" in script


def test_commands_are_extracted_from_the_documents() -> None:
    modules = {module for module, _ in commands()}
    assert {"dgray.study", "dgray.report", "dgray.sample"} <= modules
    assert ["studies/overfit.yaml"] in study_arguments()


@pytest.mark.parametrize("module", sorted({module for module, _ in commands()}))
def test_every_named_module_can_be_run(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no {module}"
    assert spec.origin is not None
    assert 'if __name__ == "__main__":' in Path(spec.origin).read_text("utf-8")


@pytest.mark.parametrize("arguments", study_arguments(), ids=" ".join)
def test_every_named_study_exists_and_its_options_are_valid(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert Path(arguments[0]).is_file()
    assert main([*arguments, "--plan"]) == 0
    assert "trials" in capsys.readouterr().out
