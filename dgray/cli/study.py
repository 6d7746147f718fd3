"""``dgray run``, ``plan`` and ``check``, and ``python -m dgray.study``: commands for study files.

Exit status: 0 all rows are complete; 1 rows are missing, as after a full disk or if Ray died; 2
the study or the run folder was refused; 130 interrupted. Their work is imported when they run, so
that their help is immediate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from typing_extensions import override

from dgray.cli.command import Command, invocation, run_command
from dgray.cli.engine_command import engine_command

_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*=")


class StudyCommand(Command):
    """Command whose option ``--set`` takes any number of assignments."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, list(_one_each(args)))
        self.keep_arguments(ctx, args)
        return rest


def _one_each(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the arguments, ``--set`` before every assignment: click options take one value."""
    is_open = False
    for last, word in zip(("", *arguments), arguments, strict=False):
        if is_open and last != "--set" and word != "--set":
            is_open = _ASSIGNMENT.match(word) is not None
            if is_open:
                yield "--set"
        is_open = is_open or word == "--set"
        yield word


study_option = click.option(
    "--set",
    "overrides",
    metavar="a.b=value ...",
    multiple=True,
    help="Replace fields of the study; values are YAML.",
)
_study = click.argument("study", metavar="STUDY.yaml", type=click.Path(path_type=Path))


@click.command(
    cls=StudyCommand,
    examples=[
        "dgray run studies/smoke.yaml",
        "dgray run studies/smoke.yaml --set fit.epochs=80 'fit.checkpoints=[20,80]' --fresh",
        "dgray run studies/digits.yaml --engine local --out runs/digits-2",
        "dgray run studies/digits.yaml --out s3://BUCKET/PATH",
    ],
)
@_study
@study_option
@click.option(
    "--plan",
    is_flag=True,
    help="The same as the command dgray plan.",
)
@click.option(
    "--check",
    is_flag=True,
    help="The same as the command dgray check.",
)
@click.option(
    "--out",
    metavar="DIR|URI",
    help="Run folder (default: runs/NAME), or s3://BUCKET/PATH, gs://BUCKET/PATH.",
)
@click.option(
    "--engine",
    type=click.Choice(["ray", "local"]),
    default="ray",
    help="ray: Ray workers (default); local: this process.",
)
@click.option("--fresh", is_flag=True, help="Start a new run in a new folder; keep the old one.")
@click.option(
    "--serve",
    is_flag=True,
    help="Show a live report on this machine while the study runs; its address is printed.",
)
@click.option(
    "--no-report",
    is_flag=True,
    help="Store the rows and stop; dgray report makes the report from them.",
)
@engine_command(interrupted="interrupted before anything was started")
def run(
    *,
    study: Path,
    overrides: tuple[str, ...],
    plan: bool,
    check: bool,
    out: str | None,
    engine: str,
    fresh: bool,
    serve: bool,
    no_report: bool,
) -> int:
    """Run a study, or resume it, and write its report.

    Exit status: 0 if every row is complete; 1 if rows are missing; 2 if the study or the run
    folder was refused; 130 if interrupted (the same command then does the rest).
    """
    from dgray.cli import run as work

    if plan and check:
        raise click.UsageError("--plan and --check exclude each other")
    work.refuse_credentials(invocation().arguments)
    if plan:
        return work.show_plan(study, overrides)
    if check:
        return work.check_study(study, overrides)
    return work.run(
        study,
        overrides,
        out,
        engine=engine,
        fresh=fresh,
        serve=serve,
        has_report=not no_report,
        typed=invocation(),
    )


@click.command(
    cls=StudyCommand,
    examples=[
        "dgray plan studies/overfit.yaml",
        "dgray plan studies/overfit.yaml --set replicates=4 'discriminator.width=[16,64]'",
    ],
)
@_study
@study_option
@engine_command(interrupted="interrupted")
def plan(*, study: Path, overrides: tuple[str, ...]) -> int:
    """Print the trials of a study and their estimated cost.

    The cost is time and disk space. Nothing is started or written. Exit status: 0, also
    if files that the study needs are missing on this machine, since a study may be planned on one
    machine and run on another: they are listed, and dgray check refuses them; 2 if the study is
    refused.
    """
    from dgray.cli import run as work

    work.refuse_credentials(invocation().arguments)
    return work.show_plan(study, overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``python -m dgray.study`` and return its exit status."""
    return run_command(run, arguments, "python -m dgray.study")
