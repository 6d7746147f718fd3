"""From the domains of a study to Optuna's suggestions. Knows Optuna's trial."""

from __future__ import annotations

import optuna

from dgray.config.reading.domains import Domain, Value
from dgray.config.reading.load import Study
from dgray.config.reading.problem import FieldPath
from dgray.plan.cells import Cell, in_order, is_active


def suggest(trial: optuna.Trial, study: Study, cell: Cell) -> dict[FieldPath, Value]:
    """Values of the domains that matter to a point."""
    point: dict[FieldPath, Value] = {}
    for domain in in_order(study):
        if is_active(study, cell, domain, point):
            point[domain.path] = _value(trial, domain)
    return point


def _value(trial: optuna.Trial, domain: Domain) -> Value:
    name = domain.name
    if domain.kind == "choice":
        chosen: Value = trial.suggest_categorical(name, list(domain.choices))
        return chosen
    if domain.kind == "int":
        low, high, step = int(domain.low), int(domain.high), int(domain.step or 1)
        return trial.suggest_int(name, low, high, log=domain.is_log, step=step)
    return trial.suggest_float(name, domain.low, domain.high, log=domain.is_log, step=domain.step)
