"""Stopping a trial of a round by the rounds before it alone. Knows Optuna's pruners.

Without rounds Optuna's study itself decides, by all that has been reported at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from dgray.config.search import OptunaSearch
from dgray.search.records import Told


class Judge:
    """Knows the trials of earlier rounds."""

    def __init__(self, search: OptunaSearch, pruner: BasePruner) -> None:
        """Of a search with one metric, or one that stops nothing."""
        self._direction = next(iter(search.metrics.values()))
        self._pruner = pruner
        self._rounds = search.rounds or 1
        self._known: list[tuple[int, FrozenTrial]] = []

    def learn(self, told: Told) -> None:
        """A trial that ended, in order."""
        if not told.intermediate:
            return
        values = {int(epoch): value for epoch, value in told.intermediate.items()}
        trial, _ = self._replayed(told.number, values)
        frozen = trial.study.get_trials()[-1]
        ended = optuna.trial.create_trial(
            state=TrialState[told.state],
            value=told.values[0] if told.values else None,
            intermediate_values=frozen.intermediate_values,
            system_attrs=frozen.system_attrs,
        )
        self._known.append((told.number, ended))

    def stops(self, number: int, intermediate: Mapping[int, float]) -> bool:
        """Whether a point with these values by epoch is to stop at the last of them."""
        _, stops = self._replayed(number, intermediate)
        return stops

    def _replayed(
        self, number: int, intermediate: Mapping[int, float]
    ) -> tuple[optuna.Trial, bool]:
        """The point in a study of its own beside those of earlier rounds; the pruner's word."""
        study = optuna.create_study(direction=self._direction, pruner=self._pruner)
        # Of its own round some may be known: a driver can die while it writes down how they ended.
        first = number // self._rounds * self._rounds
        study.add_trials([trial for known, trial in self._known if known < first])
        trial, stops = study.ask(), False
        for epoch, value in sorted(intermediate.items()):
            trial.report(value, epoch)
            stops = trial.should_prune()
        return trial, stops
