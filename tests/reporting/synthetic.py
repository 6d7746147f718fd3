"""Synthetic runs with rows such as a study writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgray.record.planned import Planned
from dgray.record.row import CheckpointResult, Cloud, Row
from dgray.record.row_schema import to_table
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import RUN_FORMAT, RunMark
from dgray.record.seal import sealed_json, sealed_yaml
from dgray.reporting.table import StudyTable, study_table


@dataclass(frozen=True)
class Member:
    """One trial of the synthetic study."""

    objective: str
    axes: dict[str, Any]
    epochs: tuple[int, ...] = (0,)
    replicates: int = 1
    weights: tuple[float | None, ...] = (0.0,)

    @property
    def label(self) -> str:
        """Label of the trial, as the plan writes it."""
        named = [f"{k.rsplit('.', 1)[-1]} {v}" for k, v in self.axes.items() if "obj" not in k]
        return ", ".join([self.objective, *named])

    @property
    def id(self) -> str:
        """Unique id, as the hash of a configuration would be."""
        return f"{self.objective}-{abs(hash_of(self.label)):08x}"


def hash_of(text: str) -> int:
    """Hash a text; equal in every process, unlike hash()."""
    value = 7
    for char in text:
        value = (value * 31 + ord(char)) % 2**32
    return value


def row(member: Member, epoch: int = 0, weight: float | None = 0.0, **columns: Any) -> Row:
    """Return a row of this trial with these metrics."""
    identity: dict[str, Any] = {
        "trial": member.id,
        "label": member.label,
        "objective": member.objective,
        "axes": json.dumps(member.axes),
        "replicate": 0,
        "epoch": epoch,
        "is_calibrated": weight is None,
        "guidance_weight": weight,
        "sampler": "ode",
        "num_steps": 32,
        "guided_stage": "both",
    }
    return Row.from_columns(identity | columns)


def counterexample() -> Iterator[CheckpointResult]:
    """Oscillating discriminators over amplitude and frequency, in one dimension."""
    seed = np.random.default_rng(0)
    grid = [
        Member(
            "oscillating",
            {"fit.oscillation.amplitude": a, "fit.oscillation.frequency": k},
            weights=(1.0,),
        )
        for a in (0.01, 0.03, 0.1)
        for k in (1, 3, 10)
    ]
    for member in (Member("base", {}), Member("oracle", {}, weights=(1.0,)), *grid):
        a = member.axes.get("fit.oscillation.amplitude", 0)
        k = member.axes.get("fit.oscillation.frequency", 0)
        path = {"base": 0.115, "oracle": 0.0}.get(member.objective, 25 * (a * k) ** 2)
        weight = member.weights[0]
        metrics = {
            "path_kl": path,
            "path_kl_se": 0.01 * path,
            "path_kl_change": path - 0.115,
            "path_kl_change_se": 0.002,
            "kl": 15 * path,
            "kl_se": 0.1 * path,
            "kl_change": 15 * path - 0.115,
            "kl_change_se": 0.1 * path,
            "cross_entropy_gap": a**2 / 8,
            "cross_entropy_gap_se": 1e-5,
        }
        sde = {"kl_sde": 0.01, "kl_sde_se": 0.01, "kl_sde_floor": 0.0, "kl_sde_floor_se": 0.01}
        sde |= {"kl_sde_change": 0.0, "kl_sde_change_se": 0.002}
        points = seed.normal(0.5 * (member.objective == "base"), 1, (800, 1)).tolist()
        clouds = [
            Cloud(
                source="base" if member.objective == "base" else "guided",
                trial=member.id,
                epoch=0,
                is_calibrated=False,
                guidance_weight=weight,
                sampler="ode",
                points=points,
            )
        ]
        rows = (
            row(member, 0, weight, **metrics),
            row(member, 0, weight, sampler="sde", **metrics, **sde),
        )
        yield CheckpointResult(
            trial=member.id, epoch=0, rows=rows, clouds=tuple(clouds), losses=(), state=None
        )


LOCK = (
    "name: overfit\ndescription: Where does cross-entropy overfitting raise the KL divergence?\n"
)
PROVENANCE = {"dgray": "0.1.0", "python": "3.11.2", "commit": "abc123", "command": "study <x> & y"}


def write_run(folder: Path, parts: Iterator[CheckpointResult]) -> Path:
    """Write a run folder, as a driver does."""
    run = RunFolder(folder)
    for part in parts:
        run.write_result(part)
    run.files.write_record("study.lock.yaml", partial(sealed_yaml, LOCK))
    run.files.write_record("provenance.json", partial(sealed_json, PROVENANCE))
    RunMark(RUN_FORMAT, {"dgray": "0"}).write(run.files)
    Planned(trials=()).write(run.files)
    return folder


def table_of(rows: Sequence[Row]) -> StudyTable:
    """Return the table of a study with these rows, without clouds and losses."""
    clouds = pd.DataFrame(columns=["source", "trial", "epoch", "sampler", "points"])
    losses = pd.DataFrame(columns=["trial", "replicate", "epoch", "loss_train"])
    return study_table(to_table(rows, Row), clouds, losses)
