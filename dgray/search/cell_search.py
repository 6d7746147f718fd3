"""Search of one cell: suggests points, follows their trials, and tells Optuna the outcomes.

The events in the run folder are the record. A resumed search replays them into a new Optuna study,
whose samplers are seeded by the number of the point, so that it suggests the same points again.
Optuna's own storage only serves its dashboard.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import optuna
import pandas as pd
from optuna.storages import BaseStorage

from dgray.config.reading.diagnostics import dotted
from dgray.config.reading.domains import Value
from dgray.config.reading.load import Study
from dgray.errors import RunRefusedError
from dgray.plan.cells import Cell, Point, point_trial
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.best_setting import best_setting
from dgray.search.cell_study import CellStudy
from dgray.search.points import Points, Running, outcome_of
from dgray.search.records import Asked, Recall, SearchRecord, Told, no_recall

ROUNDING = 1e-6  # relative: optimising samplers may round differently with other libraries
MAX_REPEATS = 100  # consecutive points without a new trial: the space is exhausted


class CellSearch:
    """Search of one cell, part of a ``SearchSchedule``.

    Args:
        study: study of the cell.
        cell: combination of axes that is searched.
        folder: folder of the run; its events are replayed.
        storage: storage of Optuna, without a study of this name.
        recall: copies cached results of a trial into the folder.
        clock: returns seconds; for tests.
    """

    def __init__(
        self,
        study: Study,
        cell: Cell,
        folder: RunFolder,
        storage: BaseStorage,
        recall: Recall = no_recall,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study, self._cell, self._search = study, cell, cell.search
        self._folder, self._recall = folder, recall
        probes = {path: domain.probes[0] for path, domain in study.domains.items()}
        self.example = point_trial(study, cell, probes)
        self._optuna = CellStudy(study, cell, storage, self.example.epochs)
        self._points = Points()
        self._is_exhausted = False
        self._record = SearchRecord(folder, cell.id, clock)
        self._reopen_last_round()
        self._replay()
        self._record.describe(cell.label, self._search, study.domains.values())

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials of all points so far, without repeats."""
        return tuple({trial.id: trial for trial in self._points.trials.values()}.values())

    @property
    def trials_with_lost_checkpoints(self) -> tuple[Trial, ...]:
        """Trials of points with an outcome that lack checkpoints, up to the epoch of their end."""
        points = self._points
        ended = [number for number, told in points.outcomes.items() if told.state != "FAIL"]
        trials = [points.trials[number] for number in ended if number in points.trials]
        return tuple(trial for trial in trials if self._folder.missing_epochs(trial))

    @property
    def num_suggested(self) -> int:
        """Number of points suggested so far."""
        return self._points.num_suggested

    @property
    def num_to_come(self) -> int:
        """Number of points that will still be suggested; 0 if only time limits them."""
        limit = self._search.num_trials
        return 0 if limit is None or self._limit_is_reached() else limit - self.num_suggested

    def has_running_point(self, trial_id: str) -> bool:
        """Return whether a running point has this trial."""
        return bool(self._points.of_trial(trial_id))

    def is_over(self) -> bool:
        """Return whether no further trial will be started."""
        return self._limit_is_reached() and not self._unstarted()

    def finish_if_over(self) -> None:
        """Tell the outcomes of the last, incomplete round if no further trial will be started."""
        if self.is_over():
            self._tell_finished()

    def ask(self) -> Trial | None:
        """Return a trial to start now; None if there is none at the moment."""
        for point in self._unstarted():
            point.is_started = True
            if self._has_work(point.trial):
                return point.trial
        repeats = 0
        while repeats < MAX_REPEATS:
            if self._limit_is_reached() or self._must_wait():
                self._tell_finished()
                return None
            trial = self._suggest()
            if trial is None:
                repeats += 1
            elif self._has_work(trial):
                return trial
            else:
                repeats = 0
        self._is_exhausted = True
        self._tell_finished()
        return None

    def report_checkpoint(self, trial_id: str, epoch: int) -> bool:
        """Report the rows of a checkpoint; return whether the trial should stop at it."""
        stops = [self._report_from(point, epoch) for point in self._points.of_trial(trial_id)]
        return any(stops)

    def report_end(self, trial_id: str, failure: str | None) -> None:
        """Report the end of a trial; ``failure``: reason why checkpoints are missing."""
        points = self._points.of_trial(trial_id)
        first = points[0]
        rows = None if failure or first.stopped_at else self._rows(first.trial)
        outcome = outcome_of(first, failure, rows, self._search)
        for point in points:
            of = None if point is first else first.number
            point.outcome = replace(outcome, number=point.number, of=of)
        self._tell_finished()

    def _has_work(self, trial: Trial) -> bool:
        """Return whether checkpoints of a trial are missing; report those that exist."""
        self._recall(trial)
        missing = self._folder.missing_epochs(trial)
        for epoch in trial.epochs:
            if epoch in missing:
                return True
            if self.report_checkpoint(trial.id, epoch):
                break
        self.report_end(trial.id, None)
        return False

    def _suggest(self) -> Trial | None:
        """Suggest a point; return its trial if no earlier point has it."""
        number = self.num_suggested
        optuna_trial, values = self._optuna.suggest(number)
        try:
            trial = point_trial(self._study, self._cell, values)
        except ValueError as error:
            self._record.add_suggestion(number, _by_name(values), None)
            invalid = Told(event=0, number=number, state="FAIL", reason=str(error))
            self._tell(optuna_trial, invalid)
            return None
        self._record.add_suggestion(number, _by_name(values), trial.id)
        optuna_trial.set_user_attr("trial", trial.id)
        earlier = self._points.numbers_of(trial.id)
        point = Running(number, trial, optuna_trial, is_started=True)
        self._points.add(point)
        if not earlier:
            return trial
        if self._points.outcome(earlier[0]) is not None:
            self._points.copy_outcome(point, earlier[0])
            self._tell_finished()
        return None

    def _report_from(self, point: Running, epoch: int) -> bool:
        """Report a checkpoint, and those after it that are complete already."""
        missing = self._folder.missing_epochs(point.trial)
        for later in [e for e in point.trial.epochs if e >= epoch]:
            if later > epoch and later in missing:
                return False
            if later not in point.intermediate and self._report(point, later):
                return True
        return False

    def _report(self, point: Running, epoch: int) -> bool:
        """Report a checkpoint of a point; return whether it is stopped there."""
        best = best_setting(self._rows(point.trial, epoch), self._search)
        if best is None or len(self._search.metrics) > 1:
            return False
        point.intermediate[epoch] = best.values[0]
        point.optuna_trial.report(best.values[0], epoch)
        if epoch == point.trial.epochs[-1] or not self._optuna.should_stop(point):
            return False
        point.stopped_at = epoch
        self._points.stop(point, epoch)
        return True

    def _tell_finished(self) -> None:
        """Tell the outcomes of finished points in order; in rounds those of a whole round."""
        running = list(self._points.running.values())
        finished = [point for point in running if point.outcome is not None]
        rounds = self._search.rounds
        is_full = rounds and self.num_suggested % rounds == 0
        is_last = is_full or self._limit_is_reached()  # no further point joins the round
        if rounds is None or (is_last and len(finished) == len(running)):
            for point in finished:
                assert point.outcome is not None
                self._tell(point.optuna_trial, point.outcome)

    def _tell(self, optuna_trial: optuna.Trial, outcome: Told) -> None:
        self._optuna.tell(optuna_trial, outcome)
        self._points.finish(outcome)
        self._record.add_outcome(outcome)

    def _reopen_last_round(self) -> None:
        """Continue a round that was cut off by limits that have been raised since.

        Its points are suggested before any of its outcomes is told, as in a search that had the
        present limits from the start. The outcomes follow again from the rows.
        """
        rounds, limit = self._search.rounds, self._search.num_trials
        count = sum(isinstance(event, Asked) for event in self._record.earlier)
        is_open = (limit is None or count < limit) and self._has_time()
        if rounds is not None and count % rounds and is_open:
            self._record.reopen(count - count % rounds)

    def _replay(self) -> None:
        """Repeat the events of earlier sessions."""
        optuna_trials: dict[int, optuna.Trial] = {}
        for event in self._record.earlier:
            if isinstance(event, Asked):
                optuna_trials[event.number] = self._replay_suggestion(event)
            else:
                self._replay_outcome(optuna_trials[event.number], event)
        self._match_unfinished()

    def _replay_suggestion(self, event: Asked) -> optuna.Trial:
        # Samplers keep state in Optuna's study, so points are suggested again, not enqueued.
        optuna_trial, values = self._optuna.suggest(event.number)
        self._refuse_other_point(event, _by_name(values))
        if event.trial is not None:
            recorded = {path: event.values[dotted(path)] for path in values}
            trial = point_trial(self._study, self._cell, recorded)
            self._points.add(Running(event.number, trial, optuna_trial))
            optuna_trial.set_user_attr("trial", trial.id)
        return optuna_trial

    def _replay_outcome(self, optuna_trial: optuna.Trial, event: Told) -> None:
        for epoch, value in event.intermediate.items():
            optuna_trial.report(value, int(epoch))
            optuna_trial.should_prune()  # pruners store attributes of reported values
        point = self._points.running.get(event.number)
        if point is not None and event.state == "PRUNED":
            self._points.stop(point, max(map(int, event.intermediate)))
        self._optuna.tell(optuna_trial, event)
        self._points.finish(event)

    def _refuse_other_point(self, event: Asked, values: Mapping[str, Value]) -> None:
        if not _is_same(values, event.values):
            raise RunRefusedError(
                f"{self._folder.where}: a resumed search must suggest the same points again, but "
                f"point {event.number} of {self._cell.label} was {dict(event.values)} and is now "
                f"{values}; was it started with Optuna {optuna.__version__}? Install the version "
                "it was started with, or start a new run beside it with --fresh"
            )

    def _match_unfinished(self) -> None:
        """Leave one point for each unfinished trial to be started; the others follow it."""
        first_of: dict[str, int] = {}
        for number, point in self._points.running.items():
            point.is_started = first_of.setdefault(point.trial.id, number) != number
            numbers = self._points.numbers_of(point.trial.id)
            ended = [n for n in self._points.outcomes if n in numbers]
            if ended:
                point.is_started = True
                self._points.copy_outcome(point, ended[0])
        if self._search.rounds is None:
            self._tell_finished()

    def _unstarted(self) -> list[Running]:
        """Return the points of an earlier session whose trials are still to be started."""
        return [point for point in self._points.running.values() if not point.is_started]

    def _limit_is_reached(self) -> bool:
        limit = self._search.num_trials
        if limit is not None and self.num_suggested >= limit:
            return True
        return self._is_exhausted or not self._has_time()

    def _has_time(self) -> bool:
        budget = self._search.time_budget
        return budget is None or self._record.elapsed < budget

    def _must_wait(self) -> bool:
        """Return whether the round is complete but not all of its outcomes are told."""
        rounds = self._search.rounds
        is_full = rounds is not None and self.num_suggested % rounds == 0
        return is_full and bool(self._points.running)

    def _rows(self, trial: Trial, epoch: int | None = None) -> pd.DataFrame:
        epochs = trial.epochs if epoch is None else (epoch,)
        return pd.concat([self._folder.read_rows(trial.id, e).to_pandas() for e in epochs])


def _by_name(values: Point) -> dict[str, Value]:
    return {dotted(path): value for path, value in values.items()}


def _is_same(values: Mapping[str, Value], recorded: Mapping[str, Value]) -> bool:
    """Return whether two points are equal up to rounding."""
    return values.keys() == recorded.keys() and all(
        math.isclose(value, float(recorded[name] or 0), rel_tol=ROUNDING)
        if isinstance(value, float)
        else value == recorded[name]
        for name, value in values.items()
    )
