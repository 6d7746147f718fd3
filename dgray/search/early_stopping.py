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
        self._earlier: list[FrozenTrial] = []

    def learn(self, told: Told) -> None:
        """A trial that ended, in order."""
        if not told.intermediate:
            return
        trial, _ = self._replayed({int(e): v for e, v in told.intermediate.items()})
        frozen = trial.study.get_trials()[-1]
        self._earlier.append(
            optuna.trial.create_trial(
                state=TrialState[told.state],
                value=told.values[0] if told.values else None,
                intermediate_values=frozen.intermediate_values,
                system_attrs=frozen.system_attrs,
            )
        )

    def stops(self, intermediate: Mapping[int, float]) -> bool:
        """Whether a trial with these values by epoch is to stop at the last of them."""
        _, stops = self._replayed(intermediate)
        return stops

    def _replayed(self, intermediate: Mapping[int, float]) -> tuple[optuna.Trial, bool]:
        """The trial in a study of its own beside the earlier ones, and the pruner's word."""
        study = optuna.create_study(direction=self._direction, pruner=self._pruner)
        study.add_trials(self._earlier)
        trial, stops = study.ask(), False
        for epoch, value in sorted(intermediate.items()):
            trial.report(value, epoch)
            stops = trial.should_prune()
        return trial, stops
