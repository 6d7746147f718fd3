"""Run a study from the command line: its plan, its checks, its session and its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dgray.cli.command import Invocation
from dgray.cli.output import printed
from dgray.cli.plan_view import render_plan
from dgray.config.reading.diagnostics import Diagnostic
from dgray.config.reading.load import load_study
from dgray.credentials import has_credentials, without_credentials
from dgray.data.summary import counted
from dgray.engine.granted_cpus import granted_cpus
from dgray.errors import (
    ArtifactError,
    DgrayError,
    PartError,
    RunRefusedError,
    StoreError,
    StudyError,
)
from dgray.files import disk_full
from dgray.plan.advice import notices
from dgray.plan.cost import estimate
from dgray.plan.plan import Plan, make_plan
from dgray.problem.inputs import inspect
from dgray.record.storage.location import Uri, location

if TYPE_CHECKING:
    from dgray.record.open_run import OpenRun


def _as_utf8(argument: str) -> str:
    """Return an argument as its user typed it; a locale that is not UTF-8 changes it."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")


def refuse_credentials(arguments: Sequence[str]) -> None:
    """Refuse credentials in arguments: other users, shell histories and logs can show them."""
    for word in filter(has_credentials, map(_as_utf8, arguments)):
        raise RunRefusedError(
            f"{without_credentials(word)}: an address on the command line must not hold "
            "credentials; set them in the environment (AWS_ACCESS_KEY_ID, ...), in the file of "
            "the storage (~/.aws/credentials), or by the role of the machine"
        )


def show_plan(study: Path, overrides: Sequence[str]) -> int:
    """Print the plan of a study, and which of its inputs this machine lacks."""
    plan = _load(study, overrides)
    inspection = inspect(plan)
    cost = estimate(plan, cpus=granted_cpus())
    Console().print(render_plan(plan, cost))
    _print(inspection.lines)
    _print(f"notice: {text}" for text in (*inspection.notices, *notices(plan, cost)))
    _print(f"missing here: {diagnostic}" for diagnostic in inspection.missing)
    if inspection.missing:
        _print(["a run on this machine would be refused until they are here"])
    inspection.check(files=False)
    return printed()


def check_study(study: Path, overrides: Sequence[str]) -> int:
    """Run the parts of other packages on two samples each, after all other checks."""
    plan = _load(study, overrides)
    _inspect(plan)
    from dgray.trial.check_parts import checked_apart  # torch

    try:
        checked = checked_apart([assignment.config for assignment in plan.study.configs])
    except PartError as error:
        if not error.field:
            raise
        rule = str(error).removeprefix(f"{error.field}: ")
        place = plan.study.place(error.field)
        raise StudyError([Diagnostic(place, error.field, rule)]) from error
    for part in checked:
        print(f"checked {part}")
    print(f"{plan.study.document.name}: valid; {counted(plan.counts.trials, 'trial')}")
    return printed()


def run(
    study: Path,
    overrides: Sequence[str],
    out: str | None,
    *,
    engine: str,
    fresh: bool,
    serve: bool,
    has_report: bool,
    typed: Invocation,
) -> int:
    """Run what is missing of a study.

    Args:
        study: study file.
        overrides: fields to replace, ``a.b=value``.
        out: run folder or URI; None: ``runs/NAME``.
        engine: ``ray`` or ``local``.
        fresh: start a new run in a new folder.
        serve: show a live report while the study runs.
        has_report: write the report at the end.
        typed: command line, for the provenance and for the command that resumes the run.

    Returns:
        0 if every row is complete, 1 if some are missing.
    """
    place = None if out is None else location(out)
    plan = _load(study, overrides)
    if not is_resumed(plan, place, fresh=fresh):
        _inspect(plan)
    if engine == "local":
        from dgray.problem.build import check_device  # torch

        check_device(plan.trials[0].config)
    from dgray.cli.live_report import served_beside
    from dgray.cli.session import run_study
    from dgray.record.open_run import open_run  # torch, pyarrow: not for --help and --plan

    opened = open_run(plan, place, fresh)
    arguments = [*map(_as_utf8, typed.arguments)]
    is_named = out is not None and not fresh
    hint = _resume_hint(typed.program, arguments, None if is_named else str(opened.folder.where))
    try:
        with served_beside(opened.folder.path) if serve else nullcontext():
            is_complete = run_study(
                plan,
                opened,
                engine=engine,
                arguments=arguments,
                resume_hint=hint,
                has_report=has_report,
            )
    except RunRefusedError:
        raise
    except BaseException as raised:
        error = _described(raised, opened)
        error.add_note(_after_correction(hint) if isinstance(error, ArtifactError) else hint)
        if error is raised:
            raise
        raise error from raised
    finally:
        opened.close()
    return 0 if is_complete else 1


def _load(study: Path, overrides: Sequence[str]) -> Plan:
    return make_plan(load_study(study, [*map(_as_utf8, overrides)]))


def is_resumed(plan: Plan, out: Path | Uri | None, *, fresh: bool) -> bool:
    """Return True if a run exists or may exist, whose artifacts replace the files of the user."""
    if fresh:
        return False
    from dgray.record.run_files import RUN_MARKS  # pyarrow

    place = out or Path("runs") / plan.study.name
    return isinstance(place, Uri) or any((place / name).exists() for name in RUN_MARKS)


def _inspect(plan: Plan) -> None:
    """Inspect the inputs of a study, print notices, and refuse what cannot work."""
    inspection = inspect(plan)
    cost = estimate(plan, cpus=granted_cpus())
    _print(f"notice: {text}" for text in (*inspection.notices, *notices(plan, cost)))
    inspection.check(files=True)


def _print(lines: Iterable[str]) -> None:
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _resume_hint(program: str, arguments: Sequence[str], place: str | None) -> str:
    """Return the command that resumes the run, printed if it stops early."""
    kept = [word for word in arguments if word != "--fresh"]
    out = [] if place is None else ["--out", place]
    return f"To resume: {shlex.join([*program.split(), *kept, *out])}"


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
