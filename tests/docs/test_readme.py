"""Test that the commands in the documents are consistent, exist, and accept their arguments."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dgray.cli.main import cli, main
from tests.docs.blocks import ALL, DOCUMENTS, ROOT, commands_of

INSTALL = "python3 -m venv .venv && .venv/bin/pip install -e"
STUDY = f"{INSTALL} . && .venv/bin/python -m dgray.study studies/overfit.yaml"
TESTS = f"{INSTALL} '.[test]' && .venv/bin/python -m pytest"
MODULES = {
    "dgray": (),
    "dgray.study": ("run",),
    "dgray.report": ("report",),
    "dgray.sample": ("sample",),
    "dgray.checkpoint": ("checkpoint",),
}
_INLINE = re.compile(r"`([^`\n]+)`")


def fenced_lines(text: str) -> Iterator[str]:
    """Yield the lines inside fenced blocks."""
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            yield line


def commands() -> list[tuple[str, ...]]:
    """Return the arguments of ``dgray`` in every command of the documents and study files."""
    texts = [block.text for block in ALL if block.language == "sh"]
    for path in DOCUMENTS:
        texts += _INLINE.findall(path.read_text("utf-8"))
    for path in sorted(ROOT.glob("studies/*.yaml")):
        comments = [line.lstrip("# ") for line in path.read_text("utf-8").splitlines()]
        texts += [line for line in comments if line.startswith(("dgray ", "python -m dgray"))]
    return sorted({arguments for text in texts for arguments in _commands_of(text)})


def _commands_of(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of ``dgray`` in a text of commands."""
    try:
        lines = commands_of(text)
    except ValueError:  # inline code that is no command
        return
    for line in lines:
        arguments = [word for word in line if not re.match(r"[A-Z_]+=", word)]
        program, *rest = [Path(arguments[0]).name, *arguments[1:]] if arguments else [""]
        if program == "dgray" and rest and rest[0].islower():
            yield tuple(rest)
        elif program.startswith("python") and rest[:1] == ["-m"] and {*rest[1:2]} & {*MODULES}:
            arguments = (*MODULES[rest[1]], *rest[2:])
            if len(arguments) > 1:  # else it is the name of a module
                yield arguments


def planned() -> list[tuple[str, ...]]:
    """Return the arguments of every command that plans or runs a study of the repository."""
    return [
        arguments
        for arguments in commands()
        if arguments[0] in {"run", "plan"}
        and any(word.startswith("studies/") for word in arguments)
    ]


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
    assert {"run", "plan", "check", "report", "sample"} <= {
        arguments[0] for arguments in commands()
    }
    assert ("run", "studies/overfit.yaml") in planned()


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"dgray"}))
def test_every_module_can_be_run(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no {module}"
    assert spec.origin is not None
    assert 'if __name__ == "__main__":' in Path(spec.origin).read_text("utf-8")


def parse(command: click.Command, arguments: tuple[str, ...], parent: click.Context) -> None:
    """Parse the arguments of a command without running it."""
    if isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        part = command.get_command(parent, arguments[0])
        assert part is not None, f"there is no command {arguments[0]}"
        parse(part, arguments[1:], click.Context(part, info_name=arguments[0], parent=parent))
    elif arguments and "--help" not in arguments:
        # A sentence may name a command without its required options.
        with contextlib.suppress(click.MissingParameter):
            command.make_context(parent.info_name, list(arguments), parent=parent.parent)


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_accepts_its_arguments(arguments: tuple[str, ...]) -> None:
    parse(cli, arguments, click.Context(cli, info_name="dgray"))


@pytest.mark.parametrize("arguments", planned(), ids=" ".join)
def test_every_named_study_exists_and_its_options_are_valid(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    options = [] if "--plan" in arguments or arguments[0] == "plan" else ["--plan"]
    assert main([*arguments, *options]) == 0
    assert "trials" in capsys.readouterr().out
