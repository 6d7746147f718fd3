"""Early stopping in rounds: a trial is compared with trials of earlier rounds only.

Without rounds, Optuna's study decides by everything that was reported before.
"""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from dgray.config.search import OptunaSearch
from dgray.search.records import Told


class RoundPruner:
    """Applies a pruner of Optuna to the trials of earlier rounds.

    Args:
        search: with one metric if it has early stopping.
        pruner: pruner of Optuna.
    """

    def __init__(self, search: OptunaSearch, pruner: BasePruner) -> None:
        self._direction = next(iter(search.metrics.values()))
        self._pruner = pruner
        self._round_size = search.rounds or 1
        self._finished: list[tuple[int, FrozenTrial]] = []  # with the numbers of their points

    def add(self, told: Told) -> None:
        """Add a finished trial, in the order in which they are told."""
        if not told.intermediate:
            return
        values = {int(epoch): value for epoch, value in told.intermediate.items()}
        trial, _ = self._replay(told.number, values)
        frozen = trial.study.get_trials()[-1]
        finished = optuna.trial.create_trial(
            state=TrialState[told.state],
            value=told.values[0] if told.values else None,
            intermediate_values=frozen.intermediate_values,
            system_attrs=frozen.system_attrs,
        )
        self._finished.append((told.number, finished))

    def should_stop(self, number: int, intermediate: Mapping[int, float]) -> bool:
        """Return whether a point with these values by epoch should stop at the last of them."""
        _, should_stop = self._replay(number, intermediate)
        return should_stop

    def _replay(self, number: int, intermediate: Mapping[int, float]) -> tuple[optuna.Trial, bool]:
        """Report the values in a temporary study beside the trials of earlier rounds."""
        study = optuna.create_study(direction=self._direction, pruner=self._pruner)
        # A driver that died while it told a round leaves some of the point's own round finished.
        first = number // self._round_size * self._round_size
        study.add_trials([trial for earlier, trial in self._finished if earlier < first])
        trial, should_stop = study.ask(), False
        for epoch, value in sorted(intermediate.items()):
            trial.report(value, epoch)
            should_stop = trial.should_prune()
        return trial, should_stop
