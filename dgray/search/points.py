"""A point of a search whose trial has not ended, and what it is worth when it has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import optuna
import pandas as pd

from dgray.config.search import OptunaSearch
from dgray.plan.plan import Trial
from dgray.search.records import Told
from dgray.search.verdict import judge


@dataclass
class Running:
    """A point that Optuna waits for.

    Attributes:
        number: its place among the points.
        trial: of the point.
        optuna_trial: of the same point.
        intermediate: value of the first metric by epoch.
        stopped_at: epoch at which it was stopped early.
        ended: what Optuna is to be told; in rounds it waits for the others.
        is_given: to an engine, in this session.
    """

    number: int
    trial: Trial
    optuna_trial: optuna.Trial
    intermediate: dict[int, float] = field(default_factory=dict)
    stopped_at: int | None = None
    ended: Told | None = None
    is_given: bool = False


def outcome(
    point: Running, failure: str | None, rows: pd.DataFrame | None, search: OptunaSearch
) -> Told:
    """What Optuna is told of a trial that ended; ``rows``: all of it, if it did so well."""
    intermediate = {str(epoch): value for epoch, value in point.intermediate.items()}
    told = Told(event=0, number=point.number, state="FAIL", intermediate=intermediate)
    if point.stopped_at is not None:
        return replace(told, state="PRUNED", reason=f"stopped early at epoch {point.stopped_at}")
    verdict = None if rows is None else judge(rows, search)
    if verdict is None:
        reason = failure or "no setting has every number that the search asks for"
        return replace(told, reason=reason)
    return replace(
        told,
        state="COMPLETE",
        values=list(verdict.values),
        excess=verdict.excess,
        setting=verdict.setting,
    )
