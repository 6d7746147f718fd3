"""Reuse of what a run computed for its earlier studies, after its study has changed.

A trial has another id if its settings, metrics or checkpoints change, since its id is a hash of
what its rows depend on. Its discriminators depend on less: states of an earlier trial with the
same ``training_key`` are copied to it, and only evaluated. Rows are copied if everything but the
list of checkpoints is the same. The numbers are those of a new run, bit for bit.

Records that are no longer part of the study are moved to ``RUN/earlier``, and back if they are
part of it again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dgray.config.reading.load import Study, load_values
from dgray.errors import RecordError, StudyError
from dgray.plan.cells import Point, cells_of, point_trial
from dgray.plan.growth import checkpoint_key, flat, training_key
from dgray.plan.plan import Plan, Trial, make_plan
from dgray.record.history import HistoryEntry, earlier_fields, nested
from dgray.record.row import CheckpointResult, LossPoint
from dgray.record.run_folder import RunFolder, StoredFit
from dgray.record.tables import trial_and_epoch, trial_of
from dgray.search import records

_FOLDERS = ("rows", "samples", "losses", "checkpoints")


class Reuse:
    """Results and training states of earlier studies of a run.

    Args:
        plan: plan of the study.
        folder: folder of the run.
        history: studies of the run in order, this one last.
    """

    def __init__(self, plan: Plan, folder: RunFolder, history: Sequence[HistoryEntry]) -> None:
        self._plan, self._folder, self._earlier = plan, folder, folder.earlier()
        self._apart: dict[str, list[str]] = defaultdict(list)  # files by trial, rows last
        self._separate()
        self._sources: dict[str, dict[str, Trial]] = defaultdict(dict)
        for trial in self._earlier_trials(history):
            self._sources[training_key(trial) or ""].setdefault(trial.id, trial)
        for trial in plan.trials:
            self.recall(trial)

    def recall(self, trial: Trial) -> None:
        """Move and copy what exists of a trial into its place."""
        self._restore(trial.id)
        key = training_key(trial)
        sources = self._sources[key] if key else {}
        for source in sources.values():
            if source.id != trial.id and self._folder.missing_epochs(trial):
                self._copy(source, trial)
        self._folder.label(trial)

    def _separate(self) -> None:
        """Move records that are no longer part of the study to ``RUN/earlier``, the rest back."""
        files, earlier = self._folder.files, self._earlier.files
        cells = {cell.id for cell in cells_of(self._plan.study)}
        for name in files.names(records.FOLDER):
            if name.split("/")[1] not in cells:
                files.move(name, earlier)
        for name in earlier.names(records.FOLDER):
            if name.split("/")[1] in cells and not files.has(name):
                earlier.move(name, files)
        current = {trial.id for trial in self._plan.trials}
        for cell in cells:
            events = records.read_events(self._folder, cell)
            current |= {e.trial for e in events if isinstance(e, records.Asked) and e.trial}
        for kind in _FOLDERS:
            for name in files.names(kind):
                if trial_of(name) not in (None, *current):
                    files.move(name, earlier)
        for kind in reversed(_FOLDERS):
            for name in earlier.names(kind):
                if (trial := trial_of(name)) is not None and trial_and_epoch(name) is not None:
                    self._apart[trial].append(name)
        for trial_id in current:
            self._restore(trial_id)

    def _restore(self, trial_id: str) -> None:
        """Move the checkpoints of a trial back from ``RUN/earlier``, rows last."""
        files, earlier = self._folder.files, self._earlier.files
        for name in self._apart.pop(trial_id, []):
            if not files.has(name):
                earlier.move(name, files)

    def _earlier_trials(self, history: Sequence[HistoryEntry]) -> Iterator[Trial]:
        """Yield the trials of earlier studies, those of the newest first."""
        fields = flat(json.loads(json.dumps(dict(self._plan.study.raw))))
        for earlier in earlier_fields(fields, history):
            try:
                study = load_values(nested(earlier))
            except StudyError:
                continue  # of an earlier version of dgray
            yield from make_plan(study).trials
            yield from self._points(study)

    def _points(self, study: Study) -> Iterator[Trial]:
        """Yield the trials of the points of an earlier study's searches."""
        for cell in cells_of(study):
            for folder in (self._folder, self._earlier):
                for event in records.read_events(folder, cell.id):
                    if isinstance(event, records.Asked) and event.trial is not None:
                        point: Point = {
                            tuple(name.split(".")): value for name, value in event.values.items()
                        }
                        yield point_trial(study, cell, point)

    def _copy(self, source: Trial, trial: Trial) -> None:
        """Copy the results and training states of another trial that a trial can use."""
        same_rows = checkpoint_key(source) == checkpoint_key(trial)
        own = set(self._folder.states(trial.id))
        for epoch in self._folder.missing_epochs(trial):
            if epoch in source.epochs and epoch not in own:
                fit = self._fit(source, trial, epoch)
                if fit is not None:
                    self._folder.write_state(trial.id, epoch, fit)
            if epoch in source.epochs and same_rows:
                self._copy_rows(source, trial, epoch)
        for epoch in self._starts(source, trial):
            fit = self._fit(source, trial, epoch)
            if fit is not None:
                self._earlier.write_state(trial.id, epoch, replace(fit, losses=()))

    def _starts(self, source: Trial, trial: Trial) -> set[int]:
        """Return epochs of a source, of which the trial has none, to continue training from."""
        own = {*self._folder.states(trial.id), *self._earlier.states(trial.id)}
        starts = set()
        for epoch in self._folder.missing_epochs(trial):
            newest = max((e for e in (*source.epochs, *own) if e <= epoch), default=None)
            if newest is not None and newest not in own:
                starts.add(newest)
        return starts

    def _fit(self, source: Trial, trial: Trial, epoch: int) -> StoredFit | None:
        """Return a training state of a source with the losses since the trial's checkpoint."""
        before = max((e for e in trial.epochs if e < epoch), default=0)
        for folder in (self._folder, self._earlier):
            try:
                state = folder.read_state(source.id, epoch)
                if state is None:
                    continue
                losses: list[LossPoint] = []
                for part in (e for e in source.epochs if before < e <= epoch):
                    losses += folder.read_losses(source.id, part)
            except RecordError as error:
                folder.files.leave_out(error.name, error)
                continue
            return StoredFit(state, [point for point in losses if point.epoch > before])
        return None

    def _copy_rows(self, source: Trial, trial: Trial, epoch: int) -> None:
        for folder in (self._folder, self._earlier):
            try:
                result = folder.read_result(source.id, epoch)
            except RecordError as error:
                folder.files.leave_out(error.name, error)
                continue
            if result.rows:
                self._folder.write_result(_renamed(result, trial))
                return


def _renamed(result: CheckpointResult, trial: Trial) -> CheckpointResult:
    """Return a result as that of another trial, whose losses and state are stored."""
    return replace(
        result,
        trial=trial.id,
        rows=tuple(replace(row, trial=trial.id) for row in result.rows),
        clouds=tuple(replace(cloud, trial=trial.id) for cloud in result.clouds),
        losses=(),
        state=None,
    )
