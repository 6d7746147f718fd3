"""``python -m dgray.study STUDY.yaml``: run a study, or resume it, and write its report.

Exit status: 0 all rows are complete; 1 rows are missing, as after a full disk or if Ray died; 2
the study or the run folder was refused; 130 interrupted. torch and Ray are imported only when
trials run.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dgray.cli.engine_command import engine_exit_status
from dgray.cli.output import printed
from dgray.cli.plan_view import render_plan
from dgray.config.reading.load import load_study
from dgray.credentials import has_credentials, without_credentials
from dgray.engine.granted_cpus import granted_cpus
from dgray.errors import DgrayError, RunRefusedError, StoreError
from dgray.files import disk_full
from dgray.plan.cost import estimate
from dgray.plan.plan import Plan, make_plan
from dgray.record.storage.location import location

if TYPE_CHECKING:
    from dgray.record.open_run import OpenRun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    return engine_exit_status(
        lambda: _run(_parser().parse_args(command_line), command_line),
        interrupted="interrupted before anything was started",
    )


def _refuse_credentials(command_line: Sequence[str]) -> None:
    """Refuse credentials in arguments: other users, shell histories and logs can show them."""
    for word in filter(has_credentials, command_line):
        raise RunRefusedError(
            f"{without_credentials(word)}: an address on the command line must not hold "
            "credentials; set them in the environment (AWS_ACCESS_KEY_ID, ...), in the file of "
            "the storage (~/.aws/credentials), or by the role of the machine"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dgray.study",
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
    plan = make_plan(load_study(args.study, args.overrides))
    if args.plan:
        Console().print(render_plan(plan, estimate(plan, cpus=granted_cpus())))
        return printed()
    if args.check:
        return _check(plan)
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
        error.add_note(hint)
        if error is raised:
            raise
        raise error from raised
    finally:
        run.close()
    return 0 if is_complete else 1


def _check(plan: Plan) -> int:
    """Run the parts of other packages on two samples each; the study itself is valid already."""
    from dgray.trial.check_parts import check_parts  # torch

    for part in check_parts(assignment.config for assignment in plan.study.configs):
        print(f"checked {part}")
    print(f"{plan.study.source}: valid; {plan.counts.trials} trials")
    return printed()


def _resume_hint(args: argparse.Namespace, command_line: Sequence[str], where: object) -> str:
    """Return the command that resumes the run, printed if it stops early."""
    kept = [word for word in command_line if word != "--fresh"]
    place = [] if args.out and not args.fresh else ["--out", str(where)]
    return f"To resume: {shlex.join(['python', '-m', 'dgray.study', *kept, *place])}"


def _described(error: BaseException, run: OpenRun) -> BaseException:
    """Return the error to show to the user: what ended the study, rather than its symptom."""
    if isinstance(error, KeyboardInterrupt):
        if run.lost is not None:
            return StoreError(run.lost)
        return KeyboardInterrupt("interrupted; finished work is kept")
    if isinstance(error, OSError) and not isinstance(error, DgrayError):
        return disk_full(error, run.folder.path) or StoreError(str(error))
    return error
