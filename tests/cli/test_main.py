"""The command ``dgray``: help, version, completion, and how ``--set`` is read."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import dgray
from dgray.cli.main import COMMANDS, cli, main

ROOT = Path(__file__).parents[2]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield the arguments and the command of every command, and of the commands of its group."""
    context = click.Context(cli, info_name="dgray")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for part, subcommand in command.commands.items():
                yield f"{name} {part}", subcommand


@pytest.mark.parametrize(("arguments", "command"), [("", cli), *commands()])
def test_help_has_a_summary_and_examples_that_are_valid(
    arguments: str, command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert command.help
    examples = text.partition("Examples:\n")[2].splitlines()
    assert examples
    for line in examples:
        program, *arguments = shlex.split(line.partition(" > ")[0])
        assert program == "dgray"
        parse(cli, arguments)


def parse(command: click.Command, arguments: list[str]) -> click.Context:
    """Return the context of the last command of a line, without running it."""
    context = command.make_context("dgray", list(arguments))
    if isinstance(command, click.Group):
        _, subcommand, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert subcommand is not None
        return parse(subcommand, rest)
    return context


def test_lines_of_the_list_are_the_summaries_of_the_commands() -> None:
    for name, command in commands():
        if name in COMMANDS:
            assert COMMANDS[name][1] == command.get_short_help_str(100), name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([n, "--help"] for n in COMMANDS)]
)
def test_help_is_immediate(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom dgray.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"torch", "ray", "numpy", "pandas", "pyarrow", "matplotlib", "pydantic", "rich"}
    assert set(done.stderr.split()) & heavy == set()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dgray, version {dgray.__version__}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pln", "dgray: error: No such command 'pln'"),
        ("run", "dgray run: error: Missing argument 'STUDY.yaml'"),
        ("run a.yaml --engne local", "dgray run: error: No such option '--engne'"),
        ("run a.yaml --plan --check", "dgray run: error: --plan and --check exclude each other"),
        ("sample --out x", "dgray sample: error: give either RUN or --base NETWORK"),
        ("plan no-such.yaml", "no-such.yaml"),
        ("check no-such.yaml", "no-such.yaml"),
        ("report no-such-run", "no-such-run"),
    ],
)
def test_a_refused_command_line_gives_one_line_and_status_2(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(line)) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(message)
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "S.yaml --set seed=4 replicates=3",
        "--set seed=4 replicates=3 S.yaml",
        "--set seed=4 S.yaml --set replicates=3",
        "--set=seed=4 S.yaml --set replicates=3",
        "--set seed=4 --set replicates=3 -- S.yaml",
    ],
)
def test_set_is_valid_before_and_after_the_study(line: str) -> None:
    parsed = parse(cli, ["plan", *shlex.split(line)]).params
    assert parsed == {"study": Path("S.yaml"), "overrides": ("seed=4", "replicates=3")}


def test_set_does_not_take_values_of_other_options() -> None:
    parsed = parse(cli, shlex.split("run --set seed=4 --out a=b S.yaml --fresh")).params
    assert (parsed["overrides"], parsed["out"], parsed["fresh"]) == (("seed=4",), "a=b", True)


@pytest.mark.parametrize(
    ("typed", "completion"),
    [("dgray sa", "sample"), ("dgray run --fr", "--fresh"), ("dgray checkpoint i", "import")],
)
def test_a_shell_completes_commands_and_options(typed: str, completion: str) -> None:
    from click.shell_completion import ShellComplete

    *arguments, incomplete = typed.split()[1:]
    items = ShellComplete(cli, {}, "dgray", "_DGRAY_COMPLETE").get_completions(
        arguments, incomplete
    )
    assert completion in [item.value for item in items]
