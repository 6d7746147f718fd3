"""``dgray``: the command of which all others are parts."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from dgray import __version__
from dgray.cli.command import Group, run_command

# Name of a command: its place and its line in ``dgray --help``. Imported when it is used.
COMMANDS = {
    "init": ("dgray.cli.init:init", "Write a study that fits your data, and print its plan."),
    "run": ("dgray.cli.study:run", "Run a study, or resume it, and write its report."),
    "plan": ("dgray.cli.study:plan", "Print the trials of a study and their estimated cost."),
    "check": ("dgray.cli.check:check", "Check a study file, or the records of a run."),
    "list": ("dgray.cli.runs:list_runs", "List runs: state, rows, best model, time and size."),
    "show": ("dgray.cli.runs:show", "Show runs with their trials and what is missing."),
    "report": ("dgray.cli.report:report", "Rebuild the report of a run from its rows."),
    "figure": ("dgray.cli.figure:figure", "Write one figure of a run, with its numbers."),
    "compare": (
        "dgray.cli.compare:compare",
        "Compare runs with the first of them.",
    ),
    "sample": ("dgray.cli.sample:sample", "Draw samples from a model of a run, or from a base."),
    "export": (
        "dgray.cli.export:export",
        "Write a corrected denoiser of a run to a folder of its own.",
    ),
    "doctor": (
        "dgray.cli.doctor:doctor",
        "Check what this machine can run: versions, devices, Ray, weights, places.",
    ),
    "schema": ("dgray.cli.schema:schema", "Print the JSON Schema of the study file."),
    "checkpoint": ("dgray.cli.checkpoint:checkpoint", "Import or describe a network file."),
}


class _LazyGroup(Group):
    """Group of the commands in ``COMMANDS``."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=COMMANDS[name][1]) for name in names]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=_LazyGroup,
    examples=[
        "dgray run studies/smoke.yaml",
        "dgray plan studies/overfit.yaml",
        "dgray report runs/smoke",
    ],
)
@click.version_option(__version__, prog_name="dgray")
def cli() -> None:
    """Studies of discriminator guidance for diffusion models.

    `dgray COMMAND --help` describes a command and gives examples. Exit status of all commands: 0;
    1 if work could not be completed; 2 if the request was refused; 130 if interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``dgray`` and return its exit status."""
    if "_DGRAY_COMPLETE" in os.environ:  # set by the shell while it completes a command line
        cli.main(prog_name="dgray")
    return run_command(cli, arguments, "dgray")
