"""Optuna's study of one cell: suggests points, decides on early stopping, and is told outcomes."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from dgray.config.reading.diagnostics import FieldPath
from dgray.config.reading.domains import Domain, Value
from dgray.config.reading.load import Study
from dgray.config.search import COSTS
from dgray.plan.cells import Cell, Point, in_order, is_active
from dgray.search.early_stopping import RoundPruner
from dgray.search.points import Running, attributes_of
from dgray.search.records import Told
from dgray.search.samplers import build_pruner, build_sampler


class CellStudy:
    """Optuna's study of one cell.

    Args:
        study: study of the cell.
        cell: combination of axes that is searched.
        storage: storage of Optuna, without a study of this name.
        epochs: checkpoints of the trials, increasing.
    """

    def __init__(
        self, study: Study, cell: Cell, storage: BaseStorage, epochs: tuple[int, ...]
    ) -> None:
        self._study, self._cell, self._search = study, cell, cell.search
        seed = self._search.sampler.seed
        self._seed = cell.assignment.config.seed if seed is None else seed
        pruner = build_pruner(self._search.early_stopping, epochs[0], epochs[-1])
        self._round_pruner = RoundPruner(self._search, pruner)
        self.optuna_study = optuna.create_study(
            storage=storage,
            study_name=cell.label,
            directions=list(self._search.metrics.values()),
            pruner=pruner,
        )
        self._name_metrics()

    def suggest(self, number: int) -> tuple[optuna.Trial, Point]:
        """Return Optuna's trial and the values of the next point."""
        self.optuna_study.sampler = build_sampler(self._search.sampler, self._seed, number)
        trial = self.optuna_study.ask()
        point: dict[FieldPath, Value] = {}
        for domain in in_order(self._study):
            if is_active(self._study, self._cell, domain, point):
                point[domain.path] = _suggest_value(trial, domain)
        return trial, point

    def should_stop(self, point: Running) -> bool:
        """Return whether a point should be stopped at its last reported epoch."""
        if self._search.early_stopping is None:
            return False
        if self._search.rounds is None:
            return bool(point.optuna_trial.should_prune())
        # Only earlier rounds count: the progress of this round depends on the order of events.
        return self._round_pruner.should_stop(point.number, point.intermediate)

    def tell(self, trial: optuna.Trial, told: Told) -> None:
        """Tell Optuna the outcome of a point."""
        for name, excess in told.excess.items():
            trial.set_constraint(name, excess)
        for name, value in attributes_of(told).items():
            trial.set_user_attr(name, value)
        self.optuna_study.tell(trial, told.values, state=TrialState[told.state])
        if self._search.rounds is not None and self._search.early_stopping is not None:
            self._round_pruner.add(told)

    def _name_metrics(self) -> None:
        """Name the objectives in dashboards; costs are of no split."""
        names = [n if n in COSTS else f"{n} (validation)" for n in self._search.metrics]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.optuna_study.set_metric_names(names)


def _suggest_value(trial: optuna.Trial, domain: Domain) -> Value:
    options: dict[str, Any] = {"log": domain.is_log}
    if domain.kind == "choice":
        chosen: Value = trial.suggest_categorical(domain.name, list(domain.choices))
        return chosen
    if domain.kind == "int":
        step = int(domain.step or 1)
        return trial.suggest_int(
            domain.name, int(domain.low), int(domain.high), step=step, **options
        )
    return trial.suggest_float(domain.name, domain.low, domain.high, step=domain.step, **options)
