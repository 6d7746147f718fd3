"""Run of a study in this process, like the command line's but without a report."""

from __future__ import annotations

from pathlib import Path

from dgray.config.reading.load import load_study
from dgray.engine import local
from dgray.plan.plan import Plan, make_plan
from dgray.problem.shared import build_artifacts
from dgray.record.open_run import open_run
from dgray.record.run_folder import RunFolder
from dgray.search.build import build_schedule


def complete(plan: Plan, folder: RunFolder) -> None:
    """Run the trials that are missing in the folder."""
    schedule = build_schedule(plan, folder)
    local.run(
        schedule,
        folder,
        lambda workers: build_artifacts(schedule.examples, folder),
        lambda event: None,
    )


def run_study_text(folder: Path, text: str) -> Path:
    """Run a study given as YAML and return the folder of its run."""
    (folder / "tiny.yaml").write_text(text)
    plan = make_plan(load_study(folder / "tiny.yaml"))
    run = open_run(plan, folder / "run", fresh=False)
    complete(plan, run.folder)
    run.close()
    return folder / "run"
