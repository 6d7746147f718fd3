"""Synthetic runs with any number of rows, written as a driver writes them.

`python benchmarks/large_run.py FOLDER ROWS` uses the dgray of `PYTHONPATH`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dgray.record.planned import Planned
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import RUN_FORMAT, RunMark
from dgray.record.seal import sealed_json, sealed_yaml

REPLICATES = 12
WEIGHTS = (0.5, 1.0, None)
SAMPLERS = ("ode", "sde")
EPOCHS = (50, 400, 3200)
OBJECTIVES = ("cross_entropy", "kl")
WIDTHS = (4, 8, 16, 32, 64, 128)
BINS = 12
POINTS = 1000
ROWS_PER_TRIAL = REPLICATES * len(WEIGHTS) * len(SAMPLERS) * len(EPOCHS)
_SIGMAS = np.geomspace(0.002, 80, BINS + 1)


def write_large_run(folder: Path, num_rows: int) -> int:
    """Write a run of a two-dimensional study with at least so many rows; return their number."""
    run = RunFolder(folder)
    run.files.write_record("study.lock.yaml", partial(sealed_yaml, "name: large\nseed: 0\n"))
    run.files.write_record("provenance.json", partial(sealed_json, {"dgray": "0.1.0"}))
    RunMark(RUN_FORMAT, {"dgray": "0"}).write(run.files)
    Planned(trials=()).write(run.files)
    count = 0
    for result in _results(num_rows):
        run.write_result(result)
        count += len(result.rows)
    return count


def _results(num_rows: int) -> Iterator[CheckpointResult]:
    random = np.random.default_rng(0)
    yield _checkpoint(random, "base", {}, 0, (0.0,))
    count = -(-num_rows // (ROWS_PER_TRIAL * len(OBJECTIVES) * len(WIDTHS)))
    sizes = np.geomspace(100, 100_000, count).astype(int) if count > 1 else [100]
    for num_real, width, objective in product(sizes, WIDTHS, OBJECTIVES):
        axes = {
            "data.num_real": int(num_real),
            "discriminator.width": width,
            "fit.objective": objective,
        }
        for epoch in EPOCHS:
            yield _checkpoint(random, objective, axes, epoch, WEIGHTS)


def _checkpoint(
    random: np.random.Generator,
    objective: str,
    axes: dict[str, Any],
    epoch: int,
    weights: tuple[float | None, ...],
) -> CheckpointResult:
    named = [f"{path.rsplit('.', 1)[-1]} {value}" for path, value in list(axes.items())[:2]]
    trial = "-".join([objective, *(str(value) for value in list(axes.values())[:2])])
    identity = {
        "trial": trial,
        "label": ", ".join([objective, *named]),
        "objective": objective,
        "axes": json.dumps(axes),
        "epoch": epoch,
        "guided_stage": "both",
        "num_steps": 32,
        "host": "host",
        "device": "cpu",
    }
    is_base = objective == "base"
    rows = [
        Row.from_columns(
            identity
            | {"replicate": replicate, "sampler": sampler}
            | {"guidance_weight": weight, "is_calibrated": weight is None}
            | _metrics(random, sampler, epoch, is_base=is_base, is_calibrated=weight is None)
        )
        for replicate, weight, sampler in product(
            range(1 if is_base else REPLICATES), weights, SAMPLERS
        )
    ]
    clouds = [
        Cloud(
            source="base" if is_base else "guided",
            trial=trial,
            epoch=epoch,
            is_calibrated=weight is None,
            guidance_weight=weight,
            sampler=sampler,
            points=random.standard_normal((POINTS, 2)).tolist(),
        )
        for weight, sampler in product(weights, SAMPLERS)
    ]
    losses = (
        []
        if is_base
        else [
            LossPoint(trial=trial, replicate=r, epoch=e, loss_train=1 / e)
            for r in range(REPLICATES)
            for e in range(max(1, epoch - 12), epoch + 1)
        ]
    )
    return CheckpointResult(
        trial=trial,
        epoch=epoch,
        rows=tuple(rows),
        clouds=tuple(clouds),
        losses=tuple(losses),
        state=None,
    )


def _metrics(
    random: np.random.Generator, sampler: str, epoch: int, *, is_base: bool, is_calibrated: bool
) -> dict[str, Any]:
    change = 0.0 if is_base else random.normal(0.05 * np.log10(epoch) - 0.1, 0.05)
    names = ["path_kl", "score_error"]
    names += ["kl"] if sampler == "ode" else ["kl_sde"]
    values: dict[str, Any] = dict.fromkeys(names, 0.3 + change)
    values |= {f"{name}_change": change for name in names if name != "score_error"}
    values |= {"validation_change": change + random.normal(0, 0.01)}
    values |= {"loss_train": 0.6, "loss_held_out": 0.7, "overfit_gap": 0.1}
    values |= {"cross_entropy": 0.69, "cross_entropy_gap": 0.01, "accuracy": 0.6}
    values |= {f"{name}_se": 0.01 for name in values}
    values |= {"kl_unconverged": 0} if sampler == "ode" else {}
    lists = ["path_kl_bins", "path_kl_change_bins", "score_error_bins"]
    for name in [*lists, "loss_train_bins", "loss_held_out_bins"]:
        values[name] = (0.1 + 0.01 * random.standard_normal(BINS)).tolist()
    values |= {f"{name}_se": [0.01] * BINS for name in lists}
    values["sigma_edges"] = _SIGMAS.tolist()
    if is_calibrated:
        values["calibrated_sigmas"] = _SIGMAS.tolist()
        values["calibrated_weights"] = random.random(BINS + 1).tolist()
    return values | {"num_parameters": 1000, "seconds_fit": 1.0, "seconds_evaluate": 1.0}


if __name__ == "__main__":
    write_large_run(Path(sys.argv[1]), int(sys.argv[2]))
