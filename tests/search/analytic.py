"""A trial whose rows are formulas of its configuration, for searches without training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dgray.config.reading.load import Study, load_study
from dgray.plan.plan import Plan, Trial, make_plan
from dgray.record.row import CheckpointResult, Resume, Row, no_state
from dgray.record.run_folder import RunFolder
from dgray.search.build import build_schedule
from dgray.search.schedule import Schedule

STUDY = """\
name: s
seed: 3
replicates: 2
data: {kind: mixture, name: ring8, num_real: 100}
base: {kind: wrong_mixture, std_scale: 1.3}
discriminator: {width: {int: [8, 64], log: true}, depth: {int: [1, 3]}}
fit:
  objective: kl
  learning_rate: {log_uniform: [1e-4, 1e-2]}
  epochs: 20
  checkpoints: [10, 20]
evaluate: {guidance_weight: [0.5, 1], metrics: [path_kl]}
search: {method: optuna, num_trials: 8, sampler: random}
"""
OPTIMUM = {0.5: 0.1, 1.0: 0.0}  # added at each weight


def load(folder: Path, *overrides: str, text: str = STUDY) -> Study:
    (folder / "s.yaml").write_text(text)
    return load_study(folder / "s.yaml", overrides)


def value(trial: Trial, epoch: int, weight: float) -> float:
    """Metric, minimal at learning rate 1e-3, width 20, weight 1 and the last epoch."""
    config = trial.config
    rate = math.log10(config.fit.learning_rate) + 3
    width = math.log(config.discriminator.width / 20)
    return rate**2 + 0.1 * width**2 + OPTIMUM.get(weight, 0.3) + 1 / epoch


def analytic_trial(
    trial: Trial,
    artifacts: Mapping[str, bytes],
    *,
    resume: Resume = no_state,
) -> Iterator[CheckpointResult]:
    """Replacement of ``run_trial``."""
    for epoch in trial.epochs:
        yield result(trial, epoch)


def result(trial: Trial, epoch: int, **columns: Any) -> CheckpointResult:
    rows = tuple(
        row(trial, epoch, replicate, setting.guidance_weight or 0.0, columns)
        for replicate in range(trial.replicates)
        for setting in trial.settings
    )
    state = str(epoch).encode() if trial.is_trained else None
    return CheckpointResult(
        trial=trial.id, epoch=epoch, rows=rows, clouds=(), losses=(), state=state
    )


def row(
    trial: Trial, epoch: int, replicate: int, weight: float, columns: Mapping[str, Any]
) -> Row:
    exact = value(trial, epoch, weight) if trial.is_trained else 0.0
    values = {
        "validation_change": exact + 0.01 * replicate,
        "path_kl_change": exact + 0.05,
        "path_kl_change_se": 0.01,
        "validation_kl": -exact,
        "num_parameters": 100,
        "seconds_fit": 2.0,
    }
    return Row.from_columns(
        {
            "trial": trial.id,
            "label": trial.label,
            "objective": trial.objective,
            "axes": json.dumps(dict(trial.axes)),
            "replicate": replicate,
            "epoch": epoch,
            "is_calibrated": False,
            "guidance_weight": weight,
            "sampler": "ode",
            "num_steps": 32,
            "guided_stage": "both",
            **values,
            **columns,
        }
    )


def finish(folder: RunFolder, trial: Trial, **columns: Any) -> None:
    """Write all rows of a trial."""
    for epoch in trial.epochs:
        folder.write_result(result(trial, epoch, **columns))


def base_of(study: Study) -> tuple[Trial, ...]:
    return make_plan(study).trials


def run_search(plan: Plan, folder: RunFolder, *, points: int | None = None) -> Schedule:
    """Run a session of a study that ends after a number of points, one trial at a time.

    ``num_parameters`` of a trial is its width.
    """
    schedule = build_schedule(plan, folder)
    count = 0
    while points is None or count < points:
        trial = schedule.next()
        if trial is None:
            assert schedule.is_over()
            break
        for epoch in trial.epochs:
            width = trial.config.discriminator.width
            folder.write_result(result(trial, epoch, num_parameters=width))
            if schedule.report_checkpoint(trial.id, epoch):
                break
        schedule.report_end(trial.id, None)
        count += trial.is_trained
    return schedule
