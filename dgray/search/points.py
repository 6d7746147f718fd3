"""Points of a search: those in progress, and the outcomes of the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import optuna
import pandas as pd

from dgray.config.search import OptunaSearch
from dgray.plan.plan import Trial
from dgray.search.best_setting import best_setting, held_out_metrics
from dgray.search.records import Told


@dataclass
class Running:
    """A suggested point whose outcome Optuna has not been told.

    Attributes:
        number: number of the point.
        trial: trial of the point.
        optuna_trial: trial of the point in Optuna's study.
        intermediate: value of the first metric by epoch.
        stopped_at: epoch at which the trial was stopped early.
        outcome: outcome of the trial; in rounds it is told with those of the whole round.
        is_started: whether the trial was handed to the engine in this session.
    """

    number: int
    trial: Trial
    optuna_trial: optuna.Trial
    intermediate: dict[int, float] = field(default_factory=dict)
    stopped_at: int | None = None
    outcome: Told | None = None
    is_started: bool = False


class Points:
    """All points of a search by number.

    Attributes:
        running: points without an outcome, in the order of their numbers.
        outcomes: outcomes of the others.
        trials: trial of every point with valid values, up to the epoch where it was stopped.
    """

    def __init__(self) -> None:
        self.running: dict[int, Running] = {}
        self.outcomes: dict[int, Told] = {}
        self.trials: dict[int, Trial] = {}

    @property
    def num_suggested(self) -> int:
        """Number of points suggested so far."""
        return len(set(self.trials) | set(self.outcomes))

    def add(self, point: Running) -> None:
        """Add a suggested point."""
        self.running[point.number] = point
        self.trials[point.number] = point.trial

    def finish(self, outcome: Told) -> None:
        """Replace a running point by its outcome."""
        self.outcomes[outcome.number] = outcome
        self.running.pop(outcome.number, None)

    def stop(self, point: Running, epoch: int) -> None:
        """Cut the checkpoints of a point's trial after an epoch."""
        epochs = tuple(e for e in point.trial.epochs if e <= epoch)
        point.trial = self.trials[point.number] = replace(point.trial, epochs=epochs)

    def outcome(self, number: int) -> Told | None:
        """Return the outcome of a point, also one that waits for the end of its round."""
        running = self.running.get(number)
        return self.outcomes.get(number) if running is None else running.outcome

    def copy_outcome(self, point: Running, number: int) -> None:
        """Give a point the outcome of an earlier point with the same trial."""
        outcome = self.outcome(number)
        assert outcome is not None
        point.trial = self.trials[point.number] = self.trials[number]
        point.outcome = replace(outcome, number=point.number, of=number)

    def of_trial(self, trial_id: str) -> list[Running]:
        """Return the running points of a trial, the first suggested one first."""
        return [point for point in self.running.values() if point.trial.id == trial_id]

    def numbers_of(self, trial_id: str) -> list[int]:
        """Return the numbers of all points with a trial."""
        return [number for number, trial in self.trials.items() if trial.id == trial_id]


def outcome_of(
    point: Running, failure: str | None, rows: pd.DataFrame | None, search: OptunaSearch
) -> Told:
    """Return the outcome of a trial that ended; ``rows``: all of its rows, if it is complete."""
    intermediate = {str(epoch): value for epoch, value in point.intermediate.items()}
    told = Told(event=0, number=point.number, state="FAIL", intermediate=intermediate)
    if point.stopped_at is not None:
        return replace(told, state="PRUNED", reason=f"stopped early at epoch {point.stopped_at}")
    best = None if rows is None else best_setting(rows, search)
    if rows is None or best is None:
        reason = failure or "no setting has a finite value of each metric of the search"
        return replace(told, reason=reason)
    return replace(
        told,
        state="COMPLETE",
        values=list(best.values),
        excess=best.excess,
        setting=best.setting,
        held_out=held_out_metrics(rows, best.setting, search),
    )


def attributes_of(told: Told) -> dict[str, Any]:
    """Return the user attributes of a point for dashboards; Optuna's samplers ignore them."""
    setting = told.setting or {}
    weight = "calibrated" if setting.get("is_calibrated") else setting.get("guidance_weight")
    attributes = {
        "epoch": setting.get("epoch"),
        "guidance_weight": weight,
        **{f"held_out {name}": value for name, value in told.held_out.items()},
        **{f"excess {name}": value for name, value in told.excess.items()},
        "same_as_trial": told.of,
        "reason": told.reason,
    }
    return {name: value for name, value in attributes.items() if value is not None}
