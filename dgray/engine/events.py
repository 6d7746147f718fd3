"""What happens while a study runs, told to whoever observes: progress view, provenance, tests.

Events are small: rows themselves go to the run folder. Knows neither torch nor Ray.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dgray.record.row import CheckpointResult, Row


@dataclass(frozen=True, kw_only=True)
class Best:
    """The setting of a checkpoint that its validation split prefers, averaged over replicates."""

    metric: str  # path_kl or kl
    value: float  # nats
    change: float | None  # against the base, nats
    weight: float | None  # guidance weight; None: calibrated
    validation_change: float | None  # what it was chosen by


@dataclass(frozen=True, kw_only=True)
class ArtifactStep:
    """How far the making of something that all trials share is."""

    role: str
    done: int
    total: int
    words: str  # what is counted, and perhaps how it goes


@dataclass(frozen=True, kw_only=True)
class EngineStarted:
    """The engine is ready; ``num_workers`` trials run at a time, as far as is known now."""

    engine: str
    where: str
    num_workers: int


@dataclass(frozen=True, kw_only=True)
class PlacesChanged:
    """Nodes joined or left, or are waited for: ``num_places`` trials fit now."""

    num_places: int
    waits_for: str | None  # what for, in words, if nothing fits


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial began or was taken up again."""

    trial_id: str
    label: str  # the trial in words


@dataclass(frozen=True, kw_only=True)
class CheckpointDone:
    """The rows of one checkpoint are in the run folder."""

    trial_id: str
    epoch: int
    rows_done: int
    best: Best | None


@dataclass(frozen=True, kw_only=True)
class TrialFailed:
    """A trial ended without all its checkpoints; its failed rows are in the run folder."""

    trial_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkerLost:
    """A process died, and what it was at is done again: nothing else comes of it.

    Attributes:
        what: id of the trial, role of the artifact, or what else it was there for.
        times: processes that were lost, at least one.
    """

    what: str
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class EngineLost:
    """The engine itself died; the driver ends now. Told from another thread than all else."""

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
    | CheckpointDone
    | TrialFailed
    | TrialFinished
    | WorkerLost
    | EngineLost
)
Observe = Callable[[Event], None]


def checkpoint_done(result: CheckpointResult) -> CheckpointDone:
    """The event of a checkpoint whose rows have just been written."""
    return CheckpointDone(
        trial_id=result.trial,
        epoch=result.epoch,
        rows_done=len(result.rows),
        best=_best(result.rows),
    )


def _best(rows: tuple[Row, ...]) -> Best | None:
    """Chosen by the validation split, so that what is shown is no selection on held-out data."""
    metric = next(
        (m for m in ("path_kl", "kl") if any(getattr(r, m) is not None for r in rows)), ""
    )
    settings: dict[object, list[Row]] = {}
    for row in rows:
        if metric and getattr(row, metric) is not None:
            interval = (row.interval_low, row.interval_high)
            key = (row.guidance_weight, row.sampler, row.num_steps, row.guided_stage, interval)
            settings.setdefault(key, []).append(row)
    candidates = [_average(metric, group) for group in settings.values()]
    by_validation = [
        (c.validation_change, index)
        for index, c in enumerate(candidates)
        if c.validation_change is not None and math.isfinite(c.validation_change)
    ]
    if by_validation:
        return candidates[min(by_validation)[1]]
    # The base has one weight only; anything else must not be chosen by what is reported.
    return candidates[0] if len({c.weight for c in candidates}) == 1 else None


def _average(metric: str, rows: list[Row]) -> Best:
    value = _mean([getattr(r, metric) for r in rows])
    assert value is not None
    return Best(
        metric=metric,
        value=value,
        change=_mean([getattr(r, f"{metric}_change") for r in rows]),
        weight=rows[0].guidance_weight,
        validation_change=_mean([r.validation_change for r in rows]),
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
