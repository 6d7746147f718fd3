"""The search of one cell: Optuna's study, asked for points and told what became of them.

The events on disk are the record. A resumed search replays them into a fresh Optuna study, whose
samplers draw by the number of the point, so that it asks for what it would have asked for. The
study is stored for Optuna's dashboard alone. Knows Optuna; neither Ray nor torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import optuna
import pandas as pd
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from dgray.config.reading.domains import Value
from dgray.config.reading.load import Study
from dgray.config.reading.problem import dotted
from dgray.errors import RunRefusedError
from dgray.plan.cells import Cell, Point, point_trial
from dgray.plan.plan import Trial
from dgray.record.run_folder import RunFolder
from dgray.search.attributes import attributes_of, held_out, name_metrics
from dgray.search.early_stopping import Judge
from dgray.search.points import Running, outcome
from dgray.search.records import Asked, Told, read_events, write_about, write_event
from dgray.search.samplers import build_pruner, build_sampler
from dgray.search.schedule import Recall, no_recall, trained_until
from dgray.search.space import suggest
from dgray.search.verdict import judge

ROUNDING = 1e-6  # relative: samplers that optimise may round differently with other libraries
MAX_REPEATS = 100  # points in a row that are answered without a trial: the space is used up


class CellSearch:
    """See ``dgray.search.schedule.Search``."""

    def __init__(
        self,
        study: Study,
        cell: Cell,
        folder: RunFolder,
        storage: BaseStorage,
        recall: Recall = no_recall,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Replay what the folder holds. ``storage``: of Optuna, without a study of this name."""
        self._study, self._cell, self._folder = study, cell, folder
        self._recall = recall
        self._search, self._clock = cell.search, clock
        self.example = point_trial(study, cell, self._probes())
        epochs = self.example.epochs
        pruner = build_pruner(self._search.early_stopping, epochs[0], epochs[-1])
        self._judge = Judge(self._search, pruner)
        self._optuna = optuna.create_study(
            storage=storage,
            study_name=cell.label,
            directions=list(self._search.metrics.values()),
            pruner=pruner,
        )
        name_metrics(self._optuna, self._search)
        self._seed = self._search.sampler.seed
        if self._seed is None:
            self._seed = cell.assignment.config.seed
        self._running: dict[int, Running] = {}
        self._told: dict[int, Told] = {}
        self._trials: dict[int, Trial] = {}
        self._events = 0
        self._is_used_up = False
        self._seconds = 0.0
        self._replay()
        self._started = clock() - self._seconds
        write_about(folder, cell.id, cell.label, self._search, study.domains.values())

    @property
    def trials(self) -> tuple[Trial, ...]:
        """See ``Search``."""
        return tuple({trial.id: trial for trial in self._trials.values()}.values())

    @property
    def num_asked(self) -> int:
        """See ``Search``."""
        return len(set(self._trials) | set(self._told))

    @property
    def num_to_come(self) -> int:
        """See ``Search``."""
        limit = self._search.num_trials
        return 0 if limit is None or self._is_spent() else limit - self.num_asked

    def owns(self, trial_id: str) -> bool:
        """See ``Search``."""
        return any(point.trial.id == trial_id for point in self._running.values())

    def is_over(self) -> bool:
        """See ``Search``."""
        waiting = any(not point.is_given for point in self._running.values())
        return not waiting and self._is_spent()

    def ask(self) -> Trial | None:
        """See ``Search``."""
        for point in self._running.values():
            if not point.is_given:  # of an earlier session
                point.is_given = True
                return point.trial if self._is_to_run(point.trial) else self.ask()
        repeats = 0
        while repeats < MAX_REPEATS:
            if self._is_spent() or self._must_wait():
                return None
            trial = self._ask_one()
            if trial is None:
                repeats += 1
            elif self._is_to_run(trial):
                return trial
            else:
                repeats = 0
        self._is_used_up = True
        return None

    def _is_to_run(self, trial: Trial) -> bool:
        """Whether a trial has work left; checkpoints that are there count as if just done."""
        self._recall(trial)
        owed = self._folder.missing_epochs(trial)
        for epoch in trial.epochs:
            if epoch in owed:
                return True
            if self.checkpoint(trial.id, epoch):
                break
        self.finished(trial.id, None)
        return False

    def checkpoint(self, trial_id: str, epoch: int) -> bool:
        """See ``Schedule``."""
        stops = False
        for point in self._points_of(trial_id):
            stops |= self._report(point, epoch)
        return stops

    def finished(self, trial_id: str, failure: str | None) -> None:
        """See ``Schedule``."""
        points = self._points_of(trial_id)
        first = points[0]
        rows = None if failure or first.stopped_at else self._rows(first.trial)
        told = outcome(first, failure, rows, self._search)
        if rows is not None:
            told = replace(told, held_out=held_out(rows, told, self._search))
        for point in points:
            of = None if point is first else first.number
            point.ended = replace(told, number=point.number, of=of)
        self._settle()

    def _settle(self) -> None:
        """Tell Optuna of points that ended; in rounds of all together, in their order."""
        ended = [point for _, point in sorted(self._running.items()) if point.ended is not None]
        if self._search.rounds is None or len(ended) == len(self._running):
            for point in ended:
                self._tell(point)

    def _ask_one(self) -> Trial | None:
        """The next point's trial, if it has to be run."""
        number = self.num_asked
        asked, values = self._suggest(number)
        try:
            trial = point_trial(self._study, self._cell, values)
        except ValueError as error:
            self._write(self._asked(number, values, None))
            self._finish(
                asked, Told(event=0, number=number, state="FAIL", reason=str(error)), write=True
            )
            return None
        self._write(self._asked(number, values, trial.id))
        return self._begin(number, trial, asked)

    def _begin(self, number: int, trial: Trial, asked: optuna.Trial) -> Trial | None:
        """Take up a point; None if its trial is known or running already."""
        asked.set_user_attr("trial", trial.id)
        twin = next((n for n, t in self._trials.items() if t.id == trial.id), None)
        point = Running(number, trial, asked, is_given=True)
        self._trials[number] = trial
        self._running[number] = point
        if twin is None:
            return trial
        if twin in self._told:
            answer = self._told[twin]
            point.trial = self._trials[number] = self._trials[twin]
            point.ended = replace(answer, number=number, of=twin)
            self._settle()
        return None

    def _suggest(self, number: int) -> tuple[optuna.Trial, Point]:
        self._optuna.sampler = build_sampler(self._search.sampler, self._seed or 0, number)
        asked = self._optuna.ask()
        return asked, suggest(asked, self._study, self._cell)

    def _report(self, point: Running, epoch: int) -> bool:
        """Take in a checkpoint; whether the point is to stop."""
        verdict = judge(self._rows(point.trial, epoch), self._search)
        if verdict is None or len(self._search.metrics) > 1:
            return False
        point.intermediate[epoch] = verdict.values[0]
        point.optuna_trial.report(verdict.values[0], epoch)
        if epoch == point.trial.epochs[-1] or self._search.early_stopping is None:
            return False
        if self._search.rounds is None:
            stops = point.optuna_trial.should_prune()
        else:  # by earlier rounds alone: how far the others of this round are is a matter of luck
            stops = self._judge.stops(point.number, point.intermediate)
        if stops:
            point.stopped_at = epoch
            self._shorten(point, epoch)
        return stops

    def _shorten(self, point: Running, epoch: int) -> None:
        point.trial = self._trials[point.number] = trained_until(point.trial, epoch)

    def _tell(self, point: Running) -> None:
        assert point.ended is not None  # by the callers
        self._finish(point.optuna_trial, point.ended, write=True)
        del self._running[point.number]

    def _finish(self, asked: optuna.Trial, told: Told, *, write: bool) -> None:
        """Tell Optuna, and the folder."""
        for name, excess in told.excess.items():
            asked.set_constraint(name, excess)
        for name, value in attributes_of(told).items():
            asked.set_user_attr(name, value)
        state = TrialState[told.state]
        self._optuna.tell(asked, told.values, state=state)
        self._told[told.number] = told
        if self._search.rounds is not None and self._search.early_stopping is not None:
            self._judge.learn(told)
        if write:
            self._write(replace(told, event=self._events, seconds=self._elapsed()))

    def _replay(self) -> None:
        """What earlier sessions asked and were told."""
        waiting: dict[int, optuna.Trial] = {}
        for event in read_events(self._folder, self._cell.id):
            self._events = event.event + 1
            self._seconds = max(self._seconds, event.seconds)
            if isinstance(event, Asked):
                asked, values = self._suggest(event.number)
                self._refuse_other_point(event, values)
                values = {path: event.values[dotted(path)] for path in values}
                waiting[event.number] = asked
                if event.trial is not None:
                    trial = point_trial(self._study, self._cell, values)
                    self._trials[event.number] = trial
                    self._running[event.number] = Running(event.number, trial, asked)
                    asked.set_user_attr("trial", trial.id)
                continue
            for epoch, value in event.intermediate.items():
                waiting[event.number].report(value, int(epoch))
                waiting[event.number].should_prune()  # a pruner keeps notes of what it saw
            if event.state == "PRUNED" and event.number in self._running:
                self._shorten(self._running[event.number], max(map(int, event.intermediate)))
            self._finish(waiting[event.number], event, write=False)
            self._running.pop(event.number, None)
        self._adopt_twins()

    def _refuse_other_point(self, event: Asked, values: Point) -> None:
        """Samplers keep their place in Optuna's study, so points are asked for again, not set."""
        found = {dotted(path): value for path, value in values.items()}
        if not _is_same(found, event.values):
            raise RunRefusedError(
                f"{self._folder.where}: a resumed search must ask for the same points again, "
                f"but point {event.number} of {self._cell.label} was {dict(event.values)} and is "
                f"now {found}; was Optuna {optuna.__version__} then too? Install that version, or "
                "start anew beside it with --fresh"
            )

    def _adopt_twins(self) -> None:
        """Points that wait for another's trial are no trials of their own."""
        seen: dict[str, int] = {}
        for number, point in sorted(self._running.items()):
            first = seen.setdefault(point.trial.id, number)
            point.is_given = first != number
            done = next(
                (
                    n
                    for n in self._told
                    if n in self._trials and self._trials[n].id == point.trial.id
                ),
                None,
            )
            if done is not None:
                point.is_given = True
                point.ended = Told(**{**vars(self._told[done]), "number": number, "of": done})
        if self._search.rounds is None:
            for point in [p for p in self._running.values() if p.ended is not None]:
                self._tell(point)

    def _is_spent(self) -> bool:
        limit, budget = self._search.num_trials, self._search.time_budget
        if limit is not None and self.num_asked >= limit:
            return True
        return self._is_used_up or (budget is not None and self._elapsed() >= budget)

    def _must_wait(self) -> bool:
        """In rounds: whether the round is full and not all of it is told."""
        rounds = self._search.rounds
        number = self.num_asked
        return rounds is not None and number % rounds == 0 and bool(self._running)

    def _points_of(self, trial_id: str) -> list[Running]:
        """The points that wait for a trial, the one that started it first."""
        return [p for _, p in sorted(self._running.items()) if p.trial.id == trial_id]

    def _rows(self, trial: Trial, epoch: int | None = None) -> pd.DataFrame:
        epochs = trial.epochs if epoch is None else (epoch,)
        return pd.concat([self._folder.checkpoint(trial.id, each)[0] for each in epochs])

    def _probes(self) -> Point:
        return {path: domain.probes[0] for path, domain in self._study.domains.items()}

    def _asked(self, number: int, values: Point, trial: str | None) -> Asked:
        by_name = {dotted(path): value for path, value in values.items()}
        return Asked(
            event=self._events,
            number=number,
            values=by_name,
            trial=trial,
            seconds=self._elapsed(),
        )

    def _write(self, event: Asked | Told) -> None:
        write_event(self._folder, self._cell.id, event)
        self._events += 1

    def _elapsed(self) -> float:
        return round(self._clock() - self._started, 1)


def _is_same(found: Mapping[str, Value], recorded: Mapping[str, Value]) -> bool:
    """Whether a point is the recorded one, but for rounding."""
    return found.keys() == recorded.keys() and all(
        math.isclose(value, float(recorded[name] or 0), rel_tol=ROUNDING)
        if isinstance(value, float)
        else value == recorded[name]
        for name, value in found.items()
    )
