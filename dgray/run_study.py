"""One session of a study: artifacts, engine, report, and the summary on the console.

Knows everything that runs; does nothing itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from dgray.artifacts import Workers, build_artifacts
from dgray.engine.events import (
    ArtifactStep,
    EngineLost,
    EngineStarted,
    Event,
    Observe,
    WorkerLost,
)
from dgray.live_tensorboard import LiveTensorBoard
from dgray.make_artifact import Step
from dgray.open_run import OpenRun
from dgray.plan import Plan, counts_of
from dgray.progress import Progress
from dgray.provenance import Session
from dgray.reporting.build import build_report
from dgray.search.build import build_schedule
from dgray.search.schedule import Schedule
from dgray.summary_view import render_summary


def run_study(
    plan: Plan, folder: OpenRun, *, engine: str, arguments: Sequence[str], go_on: str
) -> bool:
    """Complete the folder and write its report; whether every row is there.

    ``go_on``: how, in words; for when the engine dies, which ends the process from here.
    """
    console = Console()
    session = Session(folder, plan, arguments, engine)
    schedule = build_schedule(plan, folder)
    progress = Progress(schedule, folder, console)
    live = LiveTensorBoard(plan, folder)

    def observe(event: Event) -> None:
        if isinstance(event, EngineStarted):
            session.engine_started(where=event.where, num_workers=event.num_workers)
        elif isinstance(event, WorkerLost):
            session.worker_lost(event.what, event.times)
        elif isinstance(event, EngineLost):
            with contextlib.suppress(OSError):  # a full disk must not hide why
                session.end("crashed", progress.failures)
            progress.stop()
            print(f"{event.reason}; what was finished is kept. {go_on}", file=sys.stderr)
            return
        live.observe(event)
        progress.observe(event)

    try:
        with progress, live:
            _run_engine(engine, schedule, folder, observe)
    except BaseException as error:
        outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "crashed"
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            session.end(outcome, progress.failures)
        raise
    if live.failure is not None:
        console.print(f"TensorBoard stood still while trials ran: {live.failure!r}", markup=False)
    missing = folder.missing_rows(schedule.trials)
    session.end("incomplete" if missing else "complete", progress.failures)
    _show_report(folder, console)
    if missing:
        console.print(
            f"{missing} of {counts_of(schedule.trials).rows} rows are missing; reasons are in the "
            "report"
        )
    return missing == 0


def _run_engine(engine: str, schedule: Schedule, folder: OpenRun, observe: Observe) -> None:
    def tell(role: str, step: Step) -> None:
        observe(ArtifactStep(role=role, done=step.done, total=step.total, words=step.words))

    def prepare(workers: Workers | None) -> Mapping[str, bytes]:
        return build_artifacts(schedule.examples, folder, workers, tell)

    if engine == "local":
        from dgray.engine import local

        local.run(schedule, folder, prepare, observe)
    else:
        from dgray.engine import tune

        tune.run(schedule, folder, prepare, observe)


def _show_report(folder: OpenRun, console: Console) -> None:
    report = build_report(folder.path)
    console.print(render_summary(report.finding.summary, console.width))
    console.print(f"report: {report.page}", markup=False, highlight=False, soft_wrap=True)
