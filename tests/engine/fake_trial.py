"""Trial function with the interface of ``run_trial`` that costs nothing and can misbehave.

Its "training" is a chain: the value of an epoch depends on the one before, so that a trial resumed
without its state gives other numbers. Axes of the trial select its misbehaviour.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgray.config.study import StudyConfig
from dgray.plan.plan import Plan, Setting, Trial
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Resume, Row, no_state

if TYPE_CHECKING:
    from dgray.problem.shared import Workers

ARTIFACTS = {"offset": b"0.125"}


def prepare(workers: Workers | None) -> Mapping[str, bytes]:
    return ARTIFACTS


EPOCHS = (2, 5, 9)


def setting(weight: float | None) -> Setting:
    return Setting(
        guidance_weight=weight, sampler="ode", num_steps=8, interval=None, guided_stage="both"
    )


def make_trial(
    name: str,
    *,
    cpus: int = 1,
    max_failures: int = 1,
    time_limit: float | None = None,
    **axes: Any,
) -> Trial:
    config = StudyConfig.model_validate(
        {
            "name": "fake",
            "replicates": 2,
            "data": {"kind": "mixture", "name": "ring8"},
            "base": {"kind": "wrong_mixture"},
            "resources": {
                "cpus_per_trial": cpus,
                "max_failures": max_failures,
                "trial_time_limit": time_limit,
            },
        }
    )
    return Trial(
        id=name,
        label=name,
        objective="kl",
        axes=axes,
        config=config,
        epochs=EPOCHS,
        replicates=2,
        settings=(setting(1.0), setting(None)),
    )


def make_plan(*trials: Trial) -> Plan:
    return Plan(study=None, trials=trials)  # type: ignore[arg-type]  # no engine looks at it


def fake_trial(
    trial: Trial, artifacts: Mapping[str, bytes], *, resume: Resume = no_state
) -> Iterator[CheckpointResult]:
    """Yield a result per epoch of the trial; ``trial.axes`` selects the misbehaviour."""
    epoch, state = 0, float(artifacts["offset"])
    for target in trial.epochs:
        stored = resume(target)
        if stored is not None and stored[0] > epoch:
            epoch, state = stored[0], float(stored[1])
        _log(trial, target)
        while epoch < target:
            epoch += 1
            state = _next(state, trial.id, epoch)
        _misbehave(trial, target)
        yield _result(trial, target, state)


def _next(state: float, name: str, epoch: int) -> float:
    noise = int.from_bytes(hashlib.sha256(f"{name} {epoch}".encode()).digest()[:4], "big") / 2**32
    return math.sin(3.0 * state + noise) + 1.5


def _log(trial: Trial, epoch: int) -> None:
    if "log" in trial.axes:
        with open(trial.axes["log"], "a", encoding="utf-8") as file:
            file.write(f"{trial.id} {epoch}\n")


def _misbehave(trial: Trial, epoch: int) -> None:
    if trial.axes.get("raise_at") == epoch:
        raise ValueError(f"width must be > 0, but got 0\nat epoch {epoch}")
    if trial.axes.get("exhaust_memory_at") == epoch:
        bytearray(2**62)
    if trial.axes.get("hang_at") == epoch:
        time.sleep(1e6)
    if trial.axes.get("die_at") == epoch:
        os._exit(7)
    marker = Path(trial.axes.get("die_once", "/nonexistent/marker"))
    if epoch == EPOCHS[1] and marker.parent.is_dir() and not marker.exists():
        marker.touch()
        os._exit(7)
    if trial.axes.get("die_when_reused"):
        from ray.tune.trainable.function_trainable import get_session

        get_session().reset = lambda **settings: os._exit(7)
    time.sleep(trial.axes.get("seconds", 0.0))


def _result(trial: Trial, epoch: int, state: float) -> CheckpointResult:
    rows = tuple(
        _row(trial, epoch, replicate=replicate, cell=cell, state=state)
        for replicate in range(trial.replicates)
        for cell in trial.settings
    )
    cloud = Cloud(
        source="guided",
        trial=trial.id,
        epoch=epoch,
        is_calibrated=False,
        guidance_weight=1.0,
        sampler="ode",
        points=[[state, -state], [0.0, 1.0]],
    )
    loss = LossPoint(trial=trial.id, replicate=0, epoch=epoch, loss_train=state / 3)
    return CheckpointResult(
        trial=trial.id,
        epoch=epoch,
        rows=rows[: trial.axes.get("num_rows", len(rows))],
        clouds=(cloud,),
        losses=(loss,),
        state=repr(state).encode(),
    )


def _row(trial: Trial, epoch: int, *, replicate: int, cell: Setting, state: float) -> Row:
    value = state * (1 + replicate) / 7
    if trial.axes.get("nan_at") == epoch and replicate == 1:
        value = math.nan
    return Row(
        trial=trial.id,
        label=trial.label,
        objective=trial.objective,
        axes=json.dumps(dict(trial.axes)),
        replicate=replicate,
        epoch=epoch,
        **cell.columns(),
        metrics={
            "path_kl": value if cell.is_calibrated else 2 * value,
            "path_kl_bins": [value / 2, value / 2],
            "validation_change": -value if cell.is_calibrated else value,
        },
        host=str(os.getpid()),
        finished_at=str(time.time()),
    )
