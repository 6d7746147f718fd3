"""One session of a study: artifacts, engine, report, and the summary on the console."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from dgray.cli.live_tensorboard import LiveTensorBoard
from dgray.cli.progress import Progress
from dgray.cli.summary_view import render_summary
from dgray.engine.events import (
    ArtifactStep,
    CheckpointDone,
    EngineLost,
    EngineStarted,
    Event,
    Observe,
    WorkerLost,
    checkpoint_done,
)
from dgray.engine.result_cache import ResultCache
from dgray.plan.plan import Plan, counts_of
from dgray.problem.make_shared import Step
from dgray.problem.shared import Workers, build_artifacts
from dgray.record.open_run import OpenRun
from dgray.record.provenance import Session
from dgray.record.row import CheckpointResult
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import build_report
from dgray.search.build import build_schedule
from dgray.search.schedule import Schedule, no_recall


def run_study(
    plan: Plan, run: OpenRun, *, engine: str, arguments: Sequence[str], resume_hint: str
) -> bool:
    """Run what is missing, write the report, and return whether every row is there.

    Args:
        plan: of the study.
        run: locked by this process.
        engine: ``ray`` or ``local``.
        arguments: of the command line, for the provenance.
        resume_hint: printed if the engine dies, which ends this process at once.
    """
    console, folder = Console(), run.folder
    session = Session(folder.files, plan, arguments, engine)
    results = _result_cache(plan, folder, lambda result: observe(checkpoint_done(result)))
    schedule = build_schedule(plan, folder, results.recall if results else no_recall)
    progress = Progress(schedule, folder, console)
    live = LiveTensorBoard(
        plan,
        folder,
        examples=schedule.examples,
        domains=plan.study.domains.values(),
    )

    def observe(event: Event) -> None:
        if isinstance(event, EngineStarted):
            session.engine_started(where=event.where, num_workers=event.num_workers)
        elif isinstance(event, WorkerLost):
            session.worker_lost(event.what, event.times)
        elif isinstance(event, EngineLost):
            with contextlib.suppress(OSError):  # a full disk must not hide the reason
                session.end("crashed", progress.failures)
            progress.stop()
            print(f"{event.reason}; what was finished is kept. {resume_hint}", file=sys.stderr)
            return
        elif results and isinstance(event, CheckpointDone):
            (trial,) = (t for t in schedule.trials if t.id == event.trial_id)
            results.keep(trial, event.epoch)
        live.observe(event)
        progress.observe(event)

    try:
        if schedule.examples:
            with progress, live:
                _run_engine(engine, schedule, folder, observe, resume_hint)
        else:
            console.print("nothing is left to run; rebuilding the report")
    except BaseException as error:
        outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "crashed"
        with contextlib.suppress(OSError):  # a full disk must not hide the error
            session.end(outcome, progress.failures)
        raise
    if live.failure is not None:
        console.print(
            f"TensorBoard was not updated while trials ran: {live.failure!r}", markup=False
        )
    missing = folder.missing_rows(schedule.trials)
    session.end("incomplete" if missing else "complete", progress.failures)
    _show_report(run, console)
    if missing:
        console.print(
            f"{missing} of {counts_of(schedule.trials).rows} rows are missing; reasons are in the "
            "report"
        )
    return missing == 0


def _result_cache(
    plan: Plan, folder: RunFolder, recalled: Callable[[CheckpointResult], None]
) -> ResultCache | None:
    root = plan.trials[0].config.resources.result_cache
    return None if root is None else ResultCache(Path(root).expanduser(), folder, recalled)


def _run_engine(
    engine: str, schedule: Schedule, folder: RunFolder, observe: Observe, resume_hint: str
) -> None:
    def report(role: str, step: Step) -> None:
        observe(ArtifactStep(role=role, done=step.done, total=step.total, words=step.words))

    def prepare(workers: Workers | None) -> Mapping[str, bytes]:
        return build_artifacts(schedule.examples, folder, workers, report)

    if engine == "local":
        from dgray.engine import local

        local.run(schedule, folder, prepare, observe)
    else:
        from dgray.engine import tune

        tune.run(schedule, folder, prepare, observe, resume_hint=resume_hint)


def _show_report(run: OpenRun, console: Console) -> None:
    report = build_report(run.folder.path)
    run.publish_report()
    console.print(render_summary(report.finding.summary, console.width))
    for statement in report.finding.statements:
        if statement.topic == "searches":
            console.print(statement.text, markup=False, highlight=False)
    page = f"{run.folder.where}/{report.page.name}"
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
