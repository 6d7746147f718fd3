"""One session of a study: artifacts, engine, report, and the summary on the console."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from dgray.catalogue.objects import absent_objects
from dgray.cli.growth_view import growth_lines
from dgray.cli.live_tensorboard import LiveTensorBoard
from dgray.cli.progress import Progress
from dgray.cli.time_left import TimeLeft
from dgray.engine import local
from dgray.engine.events import (
    ArtifactStep,
    CheckpointDone,
    EngineLost,
    EngineStarted,
    Event,
    WorkerLost,
    checkpoint_done,
)
from dgray.engine.granted_cpus import granted_cpus
from dgray.engine.result_cache import ResultCache
from dgray.errors import RunRefusedError
from dgray.plan.cost import artifact_seconds, duration, estimate, report_seconds
from dgray.plan.plan import Plan, Trial, counts_of
from dgray.problem.artifact_table import Step, data_summaries
from dgray.problem.failure import Made
from dgray.problem.part_process import end_idle
from dgray.problem.shared import Workers, build_artifacts, missing_artifacts
from dgray.record.inspect import MISSING, stored_records
from dgray.record.open_run import OpenRun
from dgray.record.provenance import Session
from dgray.record.row import CheckpointResult
from dgray.record.run_files import DAMAGED
from dgray.reporting.legible import printable
from dgray.search.build import build_schedule
from dgray.search.reuse import Reuse


def run_study(
    plan: Plan,
    run: OpenRun,
    *,
    engine: str,
    arguments: Sequence[str],
    resume_hint: str,
    has_report: bool = True,
    console: Console | None = None,
) -> bool:
    """Run what is missing and return whether every row is there.

    Args:
        plan: plan of the study.
        run: locked by this process.
        engine: ``ray`` or ``local``.
        arguments: arguments of the command line, for the provenance.
        resume_hint: printed if the engine dies, which ends this process at once.
        has_report: whether the report is written.
        console: for progress and summary; None: that of this process.
    """
    console = console or Console()
    session = Session(run.folder.files, plan, arguments, engine)
    after = report_seconds(plan) if has_report else 0.0
    study_run = _StudyRun(plan, run, session, console, resume_hint, engine, after)
    try:
        study_run.print_damaged()
        study_run.run(engine)
        study_run.print_damaged()
    except BaseException as error:
        study_run.end("interrupted" if isinstance(error, KeyboardInterrupt) else "crashed")
        raise
    finally:
        end_idle()
    trials = study_run.schedule.trials
    missing = run.folder.missing_rows(trials)
    session.end("incomplete" if missing else "complete", study_run.progress.failures)
    if has_report:
        _show_report(run, console, after)
    else:
        where = shlex.quote(str(run.folder.where))
        text = f"no report was made; to make it: dgray report {where}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if missing:
        console.print(f"{missing} of {counts_of(trials).rows} rows are missing; reports list why")
    return missing == 0


class _StudyRun:
    """Schedule of a study and the parts that follow its events."""

    def __init__(
        self,
        plan: Plan,
        run: OpenRun,
        session: Session,
        console: Console,
        resume_hint: str,
        engine: str,
        report_seconds: float,
    ) -> None:
        folder = run.folder
        self._folder, self._session, self._console = folder, session, console
        self._resume_hint = resume_hint
        cache = plan.trials[0].config.resources.result_cache
        self._cache = cache and ResultCache(Path(cache).expanduser(), folder, self._recalled)
        self._reuse = Reuse(plan, folder, run.history) if run.is_grown else None
        if run.is_changed:
            for line in growth_lines(plan, run):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.schedule = build_schedule(plan, folder, self._recall)
        cost = estimate(plan, cpus=granted_cpus())
        self.progress = Progress(
            self.schedule,
            folder,
            console,
            TimeLeft(
                artifact_seconds=artifact_seconds(plan),
                report_seconds=report_seconds,
                parallel=1 if engine == "local" else cost.parallel_trials,
            ),
        )
        self._tensorboard = LiveTensorBoard(
            plan,
            folder,
            examples=self.schedule.examples,
            domains=plan.study.domains.values(),
        )

    def run(self, engine: str) -> None:
        """Run the trials of the schedule."""
        self._restore_artifacts()
        if not self.schedule.examples:
            self._console.print("nothing is left to run")
            return
        configs = [trial.config.model_dump(mode="json") for trial in self.schedule.examples]
        if absent := absent_objects(configs):
            raise RunRefusedError("; ".join(absent))
        with self.progress, self._tensorboard:
            if engine == "local":
                local.run(self.schedule, self._folder, self._prepare, self._observe)
            else:
                from dgray.engine import tune  # Ray

                tune.run(
                    self.schedule,
                    self._folder,
                    self._prepare,
                    self._observe,
                    resume_hint=self._resume_hint,
                )
        if (failure := self._tensorboard.failure) is not None:
            self._console.print(f"TensorBoard was not updated: {failure!r}", markup=False)

    def print_damaged(self) -> None:
        """Print and record which damaged records are computed again."""
        lines = self._folder.left_out
        for line in lines:
            is_missing = line.endswith(f": {MISSING}")
            where = "" if is_missing else f"set aside in {self._folder.where}/{DAMAGED}, "
            text = f"{where}to be computed again: {line}"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._session.damaged(lines)
        self._folder.files.left_out.clear()

    def _restore_artifacts(self) -> None:
        """Compute damaged artifacts that no trial of the schedule needs, for sampling."""
        to_run = {trial.id for trial in self.schedule.examples}
        complete = [trial for trial in self.schedule.trials if trial.id not in to_run]
        missing = missing_artifacts(complete, self._folder)
        if missing:
            self._prepare_for(missing, None)

    def end(self, outcome: str) -> None:
        """Record an early end of the session, unless the disk or store has failed."""
        with contextlib.suppress(OSError):  # the first error must not be hidden
            self._session.end(outcome, self.progress.failures)

    def _prepare(self, workers: Workers | None) -> Mapping[str, Made]:
        return self._prepare_for(self.schedule.examples, workers)

    def _prepare_for(self, trials: Iterable[Trial], workers: Workers | None) -> Mapping[str, Made]:
        def report(role: str, step: Step) -> None:
            self._observe(
                ArtifactStep(role=role, done=step.done, total=step.total, text=step.text)
            )

        made = build_artifacts(trials, self._folder, workers, report)
        self._session.artifacts_made(key for key, c in made.items() if isinstance(c, bytes))
        if summaries := data_summaries(made):
            self._session.data_read(summaries)
            for line in (line for summary in summaries for line in summary.lines()):
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        return made

    def _recall(self, trial: Trial) -> None:
        """Take what exists of a trial, in the run or in the result cache."""
        if self._reuse:
            self._reuse.recall(trial)
        if self._cache:
            self._cache.recall(trial)

    def _recalled(self, result: CheckpointResult) -> None:
        self._observe(checkpoint_done(result))

    def _observe(self, event: Event) -> None:
        match event:
            case EngineStarted(where=where, num_workers=num_workers):
                self._session.engine_started(where=where, num_workers=num_workers)
            case WorkerLost(task=task, times=times):
                self._session.worker_lost(task, times)
            case EngineLost(reason=reason):
                self.end("crashed")
                self.progress.stop()
                message = f"{reason}; finished work is kept. {self._resume_hint}"
                print(message, file=sys.stderr)
                return
            case CheckpointDone(trial_id=trial_id, epoch=epoch) if self._cache:
                (trial,) = (t for t in self.schedule.trials if t.id == trial_id)
                self._cache.keep(trial, epoch)
        self._tensorboard.observe(event)
        self.progress.observe(event)


def _show_report(run: OpenRun, console: Console, seconds: float) -> None:
    from dgray.cli.summary_view import render_summary
    from dgray.reporting.build import build_report  # its libraries, after the trials

    text = f"making the report (about {duration(seconds)})"
    if not console.is_terminal:
        console.print(text, markup=False, highlight=False)
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        report = build_report(
            run.folder.path, where=run.folder.where, stored=stored_records(run.folder)
        )
        run.publish_report()
    for warning in report.warnings:
        console.print(printable(warning), markup=False, highlight=False, soft_wrap=True)
    finding = report.finding
    console.print(render_summary(finding.summary, finding.columns, console.width))
    for statement in finding.statements:
        if statement.topic in (finding.statements[0].topic, "searches"):
            console.print(printable(statement.text), markup=False, highlight=False)
    page = f"{run.folder.where}/{report.page.name}"
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
