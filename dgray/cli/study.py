"""``python -m dgray.study STUDY.yaml``: run a study, or resume it, and write its report.

Exit status: 0 all rows are complete; 1 rows are missing, as after a full disk or if Ray died; 2
the study or the run folder was refused; 130 interrupted. torch and Ray are imported only when
trials run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dgray.cli.command import Parser
from dgray.cli.engine_command import engine_exit_status
from dgray.cli.output import printed
from dgray.cli.plan_view import render_plan
from dgray.config.reading.load import load_study
from dgray.credentials import has_credentials, without_credentials
from dgray.engine.granted_cpus import granted_cpus
from dgray.errors import ArtifactError, DgrayError, RunRefusedError, StoreError
from dgray.files import disk_full
from dgray.plan.advice import notices
from dgray.plan.cost import estimate
from dgray.plan.plan import Plan, make_plan
from dgray.problem.inputs import inspect
from dgray.record.storage.location import Uri, location

if TYPE_CHECKING:
    from dgray.record.open_run import OpenRun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    return engine_exit_status(
        lambda: _run(_parser().parse_args(command_line), [*map(_as_utf8, command_line)]),
        interrupted="interrupted before anything was started",
    )


def _as_utf8(argument: str) -> str:
    """Return an argument as its user typed it; a locale that is not UTF-8 changes it."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")


def _refuse_credentials(command_line: Sequence[str]) -> None:
    """Refuse credentials in arguments: other users, shell histories and logs can show them."""
    for word in filter(has_credentials, command_line):
        raise RunRefusedError(
            f"{without_credentials(word)}: an address on the command line must not hold "
            "credentials; set them in the environment (AWS_ACCESS_KEY_ID, ...), in the file of "
            "the storage (~/.aws/credentials), or by the role of the machine"
        )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dgray.study",
        allow_abbrev=False,  # an abbreviated --fresh would remain in the command that resumes
        description="Run or resume a study and write its report.",
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="study file")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--plan", action="store_true", help="print the trials and the estimated time, then exit"
    )
    only.add_argument(
        "--check",
        action="store_true",
        help="validate the study, run parts of other packages on two samples, then exit",
    )
    parser.add_argument(
        "--out",
        metavar="DIR|URI",
        help="run folder (default: runs/NAME), or s3://BUCKET/PATH, gs://BUCKET/PATH",
    )
    parser.add_argument(
        "--engine",
        choices=("ray", "local"),
        default="ray",
        help="ray: Ray workers (default); local: this process",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="a.b=value",
        nargs="+",
        action="extend",
        default=[],
        help="replace fields of the study; values are YAML",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start a new run in a new folder; keep the old one"
    )
    return parser


def _run(args: argparse.Namespace, command_line: Sequence[str]) -> int:
    _refuse_credentials(command_line)
    out = None if args.out is None else location(args.out)
    plan = make_plan(load_study(args.study, [*map(_as_utf8, args.overrides)]))
    if args.plan or args.check or not _is_resumed(plan, out, fresh=args.fresh):
        _inspect(plan, args)
    if args.plan:
        return printed()
    if args.check:
        return _check(plan)
    if args.engine == "local":
        from dgray.problem.build import check_device  # torch

        check_device(plan.trials[0].config)
    from dgray.cli.session import run_study
    from dgray.record.open_run import open_run  # torch, pyarrow: not for --help and --plan

    run = open_run(plan, out, args.fresh)
    hint = _resume_hint(args, command_line, run.folder.where)
    try:
        is_complete = run_study(
            plan, run, engine=args.engine, arguments=command_line, resume_hint=hint
        )
    except RunRefusedError:
        raise
    except BaseException as raised:
        error = _described(raised, run)
        error.add_note(_after_correction(hint) if isinstance(error, ArtifactError) else hint)
        if error is raised:
            raise
        raise error from raised
    finally:
        run.close()
    return 0 if is_complete else 1


def _is_resumed(plan: Plan, out: Path | Uri | None, *, fresh: bool) -> bool:
    """Return True if a run exists or may exist, whose artifacts replace the files of the user."""
    if fresh:
        return False
    from dgray.record.run_files import LOCK_FILE  # pyarrow

    place = out or Path("runs") / plan.study.name
    return isinstance(place, Uri) or (place / LOCK_FILE).exists()


def _inspect(plan: Plan, args: argparse.Namespace) -> None:
    """Look at the inputs of a study, print what is remarkable, and refuse what cannot work."""
    inspection = inspect(plan)
    cost = estimate(plan, cpus=granted_cpus())
    console = Console()
    lines = [f"notice: {text}" for text in (*inspection.notices, *notices(plan, cost))]
    if args.plan:
        console.print(render_plan(plan, cost))
        lines = [*inspection.lines, *lines]
        lines += [f"missing here: {diagnostic}" for diagnostic in inspection.missing]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    inspection.check(files=not args.plan)


def _check(plan: Plan) -> int:
    """Run the parts of other packages on two samples each; the study itself is valid already."""
    from dgray.trial.check_parts import check_networks, check_parts  # torch

    configs = [assignment.config for assignment in plan.study.configs]
    for part in (*check_parts(configs), *check_networks(configs)):
        print(f"checked {part}")
    print(f"{plan.study.source}: valid; {plan.counts.trials} trials")
    return printed()


def _resume_hint(args: argparse.Namespace, command_line: Sequence[str], where: object) -> str:
    """Return the command that resumes the run, printed if it stops early."""
    kept = [word for word in command_line if word != "--fresh"]
    place = [] if args.out and not args.fresh else ["--out", str(where)]
    return f"To resume: {shlex.join(['python', '-m', 'dgray.study', *kept, *place])}"


def _after_correction(resume_hint: str) -> str:
    """Return the hint after an error that the same command would meet again."""
    return (
        f"Correct that first. {resume_hint}, or with --fresh in a new folder if the study itself "
        "changes"
    )


def _described(error: BaseException, run: OpenRun) -> BaseException:
    """Return the error to show to the user: what ended the study, rather than its symptom."""
    if isinstance(error, KeyboardInterrupt):
        if run.lost is not None:
            return StoreError(run.lost)
        return KeyboardInterrupt("interrupted; finished work is kept")
    if isinstance(error, OSError) and not isinstance(error, DgrayError):
        return disk_full(error, run.folder.path) or StoreError(str(error))
    return error
