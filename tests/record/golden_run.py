"""Small run with every kind of record, made without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy

from dgray.plan.plan import Plan, Trial, make_plan
from dgray.record.inspect import check_records, record_names
from dgray.record.open_run import OpenRun, open_run
from dgray.record.provenance import Session
from dgray.record.row import CheckpointResult, Cloud, LossPoint
from dgray.record.run_folder import RunFolder
from dgray.search.build import build_schedule
from tests.search.analytic import load, result

ARTIFACT = b"any bytes, without a format"


def plan_of(folder: Path, *overrides: str) -> Plan:
    return make_plan(load(folder, "search.num_trials=3", *overrides))


def full_result(trial: Trial, epoch: int) -> CheckpointResult:
    """A checkpoint with samples, losses and a training state."""
    cloud = Cloud(
        source="guided",
        trial=trial.id,
        epoch=epoch,
        is_calibrated=False,
        guidance_weight=1.0,
        sampler="ode",
        points=[[0.5, -0.25 * epoch]] * 3,
    )
    losses = [
        LossPoint(trial=trial.id, replicate=0, epoch=epoch - e, loss_train=0.1 * e)
        for e in range(min(epoch, 3))
    ]
    seed = int(trial.id[-8:], 16) + epoch
    state = {"epoch": np.array(epoch), "weight.0": np.random.default_rng(seed).normal(size=40)}
    return replace(
        result(trial, epoch),
        clouds=(cloud,),
        losses=tuple(losses),
        state=safetensors.numpy.save(state) if trial.is_trained else None,
    )


def run_session(plan: Plan, run: OpenRun) -> list[tuple[str, int]]:
    """Compute what a run lacks; return the trials and epochs that were computed."""
    session = Session(run.folder.files, plan, [], "local")
    schedule = build_schedule(plan, run.folder)
    computed = []
    while (trial := schedule.next()) is not None:
        for epoch in run.folder.missing_epochs(trial):
            run.folder.write_result(full_result(trial, epoch))
            schedule.report_checkpoint(trial.id, epoch)
            computed.append((trial.id, epoch))
        schedule.report_end(trial.id, None)
    if run.folder.read_artifact("likelihood-1") is None:
        run.folder.write_artifact("likelihood-1", ARTIFACT)
    session.artifacts_made(["likelihood-1"])
    session.end("complete", {})
    return computed


def make_run(folder: Path, *overrides: str) -> Path:
    """Make a run of the study ``plan_of`` in ``folder`` / run."""
    folder.mkdir(exist_ok=True)
    plan = plan_of(folder, *overrides)
    run = open_run(plan, folder / "run", fresh=False)
    run_session(plan, run)
    run.close()
    return folder / "run"


def damaged(folder: Path) -> Iterator[str]:
    """Yield the names of all records of a run that are damaged."""
    run = RunFolder(folder)
    states = check_records(run, record_names(run))
    return (state.name for state in states if state.reason is not None)
