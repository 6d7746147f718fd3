"""Events of a running study, for its observers: progress view, TensorBoard, provenance, tests.

Events are small: rows themselves are written to the run folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dgray.catalogue import METRICS
from dgray.plan.plan import Setting
from dgray.record.row import CheckpointResult, Row

# Settings are selected by the validation column of the metric that every trial computes.
_METRIC, _CRITERION = next(
    (spec.name, column.validation)
    for spec in METRICS
    if spec.is_always_computed
    for column in spec.more_columns
    if column.validation
)


@dataclass(frozen=True, kw_only=True)
class BestSetting:
    """Metric of the setting that a checkpoint's validation split selects, mean over replicates."""

    metric: str  # its name in the catalogue
    value: float  # nats
    change: float | None  # relative to the base, nats
    weight: float | None  # guidance weight; None: calibrated
    validation_change: float | None  # the criterion of the selection


@dataclass(frozen=True, kw_only=True)
class ArtifactStep:
    """Progress of a shared artifact's computation."""

    role: str
    done: int
    total: int
    text: str  # what is counted, and optionally a loss


@dataclass(frozen=True, kw_only=True)
class EngineStarted:
    """The engine is ready; ``num_workers`` trials fit on the nodes of this moment."""

    engine: str
    where: str
    num_workers: int


@dataclass(frozen=True, kw_only=True)
class PlacesChanged:
    """Nodes joined or left, so that ``num_places`` trials fit now."""

    num_places: int
    waits_for: str | None  # a message, if no trial fits


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial was started or resumed."""

    trial_id: str
    label: str


@dataclass(frozen=True, kw_only=True)
class TrialProgress:
    """A trial has trained for a number of epochs, a fraction included."""

    trial_id: str
    epochs: float


@dataclass(frozen=True, kw_only=True)
class CheckpointDone:
    """The rows of one checkpoint are in the run folder."""

    trial_id: str
    epoch: int
    rows_done: int
    best: BestSetting | None


@dataclass(frozen=True, kw_only=True)
class TrialFailed:
    """A trial ended without all its checkpoints; its failed rows are in the run folder."""

    trial_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkerLost:
    """A worker process died and its work is repeated, which changes no result.

    Attributes:
        task: trial id, role of the artifact, or another description of its work.
        times: number of lost processes, at least 1.
    """

    task: str
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class EngineLost:
    """The engine died and the driver exits; observed from a thread of its own."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """A trial has all its checkpoints."""

    trial_id: str


Event = (
    ArtifactStep
    | EngineStarted
    | PlacesChanged
    | TrialStarted
    | TrialProgress
    | CheckpointDone
    | TrialFailed
    | TrialFinished
    | WorkerLost
    | EngineLost
)
Observe = Callable[[Event], None]


def checkpoint_done(result: CheckpointResult) -> CheckpointDone:
    """Return the event of a checkpoint whose rows have been written."""
    return CheckpointDone(
        trial_id=result.trial,
        epoch=result.epoch,
        rows_done=len(result.rows),
        best=_best(result.rows),
    )


def _best(rows: tuple[Row, ...]) -> BestSetting | None:
    """Select by the validation split, so that the value shown has no selection bias."""
    settings: dict[Setting, list[Row]] = {}
    for row in rows:
        if row[_METRIC] is not None:
            settings.setdefault(Setting.from_columns(row.columns()), []).append(row)
    candidates = [_average(group) for group in settings.values()]
    by_validation = [
        (candidate.validation_change, index)
        for index, candidate in enumerate(candidates)
        if candidate.validation_change is not None and math.isfinite(candidate.validation_change)
    ]
    if by_validation:
        return candidates[min(by_validation)[1]]
    # Without a criterion only a single guidance weight (the base's) needs no selection.
    return candidates[0] if len({c.weight for c in candidates}) == 1 else None


def _average(rows: list[Row]) -> BestSetting:
    value = _mean([row[_METRIC] for row in rows])
    assert value is not None
    return BestSetting(
        metric=_METRIC,
        value=value,
        change=_mean([row[f"{_METRIC}_change"] for row in rows]),
        weight=rows[0].guidance_weight,
        validation_change=_mean([row[_CRITERION] for row in rows]),
    )


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
