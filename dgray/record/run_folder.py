"""Folder of one run of a study: the record from which the run is resumed and reported.

    RUN/rows/TRIAL-EPOCH.parquet       results of a checkpoint; the file marks it as complete
    RUN/rows/TRIAL-failed.parquet      failed rows of the checkpoints a trial did not complete
    RUN/samples/, RUN/losses/          sample clouds and training losses, one file per checkpoint
    RUN/checkpoints/TRIAL-EPOCH.safetensors
    RUN/artifacts/KEY                  artifacts that trials share

Every file is written atomically, the rows of a checkpoint last, and has a seal (``record.seal``)
that is checked when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgray.errors import RecordError
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from dgray.record.row_schema import added_columns
from dgray.record.run_files import EARLIER, RunFiles, Seals
from dgray.record.seal import sealed_bytes, unsealed_bytes
from dgray.record.tables import FAILED, Tables, arrays_of, part_name, trial_and_epoch

if TYPE_CHECKING:
    import pandas as pd

    from dgray.plan.plan import Trial
    from dgray.record.storage.lease import LeasedStore
    from dgray.record.storage.store import Store
    from dgray.record.storage.store_folder import StoreFolder


@dataclass(frozen=True)
class StoredFit:
    """Training state at a checkpoint, and the training losses since the one before."""

    state: bytes
    losses: Sequence[LossPoint]


class RunFolder:
    """Reads and writes the record of a run; ``open_run`` creates or resumes one for a driver.

    Args:
        path: local folder of the run.
        mirror: see ``RunFiles``.
        where: place to show to the user, if it is not ``path``.
        seals: see ``RunFiles``.
    """

    def __init__(
        self,
        path: Path,
        mirror: Store | LeasedStore | StoreFolder | None = None,
        where: Path | str | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.path, self.where = path, path if where is None else where
        self.files = RunFiles(path, mirror, seals)
        self._rows = Tables(self.files, "rows", Row)
        self._clouds = Tables(self.files, "samples", Cloud)
        self._losses = Tables(self.files, "losses", LossPoint)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Records that were not used, each with its reason; the report names them."""
        reasons = sorted(self.files.left_out.items())
        return tuple(f"{name}: {reason}" for name, reason in reasons)

    def parts_without_rows(self) -> list[str]:
        """Return the checkpoints, as ``TRIAL-EPOCH``, of which there are files but no rows."""
        folders = ("samples", "losses", "checkpoints")
        stems = {path.stem for name in folders for path in (self.path / name).glob("*")}
        return sorted(s for s in stems if trial_and_epoch(s) and not self._rows.has(s))

    def listed_files(self) -> set[str]:
        """Return the names of the rows that list their other files, and of those files."""
        names = set()
        for part in self._rows.parts():
            if (files := self._rows.listed_files(part)) is not None:
                names |= {self._rows.name(part), *files}
        return names

    def write_result(self, result: CheckpointResult) -> None:
        """Store one checkpoint, which marks it as complete."""
        part = part_name(result.trial, result.epoch)
        self._clouds.write(part, result.clouds)
        self._losses.write(part, result.losses)
        if result.state is not None:
            self.files.write_record(state_name(part), partial(sealed_bytes, result.state))
        # Losses and state may have been stored before, if the checkpoint is evaluated again.
        names = (self._clouds.name(part), self._losses.name(part), state_name(part))
        files = [name for name in names if self.files.has(name)]
        self._rows.write(part, result.rows, result.columns, files)
        self._delete_failure_if_complete(result.trial)

    def read_result(self, trial_id: str, epoch: int) -> CheckpointResult:
        """Return one checkpoint as it was written; it must exist.

        Raises:
            RecordError: one of its records is damaged.
        """
        part = part_name(trial_id, epoch)
        rows = self._rows.read(part)
        return CheckpointResult(
            trial=trial_id,
            epoch=epoch,
            rows=tuple(Row.from_columns(row) for row in rows.to_pylist()),
            clouds=tuple(Cloud(**cloud) for cloud in self._clouds.read(part).to_pylist()),
            losses=tuple(self.read_losses(trial_id, epoch)),
            state=self.read_state(trial_id, epoch),
            columns=added_columns(rows.schema),
        )

    def delete_rows(self, trial_id: str, epoch: int) -> None:
        """Delete the rows of a checkpoint, which marks it as incomplete."""
        self.files.delete(self._rows.name(part_name(trial_id, epoch)))

    def has_rows(self) -> bool:
        """Return whether a checkpoint is complete, of this study or of an earlier one."""
        folders = ("rows", f"{EARLIER}/rows")
        parts = [Path(name).stem for folder in folders for name in self.files.names(folder)]
        return any(map(trial_and_epoch, parts))

    def completed_epochs(self, trial_id: str) -> set[int]:
        """Return the epochs of the complete checkpoints of a trial."""
        parts = (trial_and_epoch(part) for part in self._rows.parts())
        return {part[1] for part in parts if part is not None and part[0] == trial_id}

    def load_state(self, trial_id: str, epoch: int) -> tuple[int, bytes] | None:
        """Return the newest intact training state of a trial up to an epoch, with its epoch.

        Damaged states are skipped, and so is one of this epoch without its training losses.
        States that are no longer part of the study are in ``RUN/earlier``.
        """
        stored = {e: folder for folder in (self.earlier(), self) for e in folder.states(trial_id)}
        for earlier in sorted((e for e in stored if e <= epoch), reverse=True):
            part = part_name(trial_id, earlier)
            if earlier == epoch and not self._losses.has(part):
                continue
            try:
                state = stored[earlier].read_state(trial_id, earlier)
            except RecordError as error:
                self.files.leave_out(state_name(part), error)
                continue
            if state is not None:
                return earlier, state
        return None

    def earlier(self) -> RunFolder:
        """Return the records that are no longer part of the study."""
        files = self.files.below(EARLIER)
        return RunFolder(files.path, files.mirror, seals=files.seals)

    def states(self, trial_id: str) -> list[int]:
        """Return the epochs of the training states of a trial, increasing."""
        names = self.files.names("checkpoints")
        parts = {trial_and_epoch(Path(name).stem) for name in names}
        return sorted(part[1] for part in parts if part is not None and part[0] == trial_id)

    def trained_epochs(self, trial_id: str) -> set[int]:
        """Return the checkpoints with a training state and losses, which need no training."""
        epochs = self.states(trial_id)
        return {epoch for epoch in epochs if self._losses.has(part_name(trial_id, epoch))}

    def write_state(self, trial_id: str, epoch: int, fit: StoredFit) -> None:
        """Store a training state and its losses, without rows."""
        part = part_name(trial_id, epoch)
        losses = [replace(point, trial=trial_id) for point in fit.losses]
        self._losses.write(part, losses)
        self.files.write_record(state_name(part), partial(sealed_bytes, fit.state))

    def read_losses(self, trial_id: str, epoch: int) -> list[LossPoint]:
        """Return the training losses since the checkpoint before.

        Raises:
            RecordError: they are damaged.
        """
        table = self._losses.read(part_name(trial_id, epoch))
        return [LossPoint(**point) for point in table.to_pylist()]

    def label(self, trial: Trial) -> None:
        """Give the rows of a trial its label and axes, which depend on the study's axes."""
        axes = json.dumps(dict(trial.axes))
        for epoch in set(trial.epochs) - set(self.missing_epochs(trial)):
            part = part_name(trial.id, epoch)
            table = self._rows.read(part)
            rows = [Row.from_columns(row) for row in table.to_pylist()]
            labelled = [replace(row, label=trial.label, axes=axes) for row in rows]
            if rows != labelled:
                files = self._rows.listed_files(part)
                self._rows.write(part, labelled, added_columns(table.schema), files)

    def read_state(self, trial_id: str, epoch: int) -> bytes | None:
        """Return the training state of a checkpoint, or None if it does not exist.

        Raises:
            RecordError: it is damaged.
        """
        content = self.files.read_record(state_name(part_name(trial_id, epoch)))
        return None if content is None else unsealed_bytes(content)

    def write_failure(self, trial: Trial, reason: str) -> None:
        """Write a failed row for each row that the trial has not completed."""
        rows = _failed_rows(trial, reason, missing=self.missing_epochs(trial))
        self._rows.write(part_name(trial.id, FAILED), rows)

    def missing_epochs(self, trial: Trial) -> list[int]:
        """Return the checkpoints of the trial that are not complete."""
        return [epoch for epoch in trial.epochs if not self._rows.has(part_name(trial.id, epoch))]

    def missing_rows(self, trials: Iterable[Trial]) -> int:
        """Return the number of rows these trials have not completed (failed rows included)."""
        return sum(
            len(self.missing_epochs(trial)) * trial.replicates * len(trial.settings)
            for trial in trials
        )

    def row_table(self) -> pa.Table:
        """Return all rows that are intact; failed rows only of checkpoints without others."""
        return self._rows.concatenated(self._rows_once())

    def _rows_once(self) -> Iterator[pa.Table]:
        done: set[tuple[str, int] | None] = set()
        for part, table in self._rows.intact():  # sorted: the failed rows of a trial are its last
            done.add(trial_and_epoch(part))
            yield table if trial_and_epoch(part) is not None else _without(table, done)

    def rows(self) -> pd.DataFrame:
        """Return ``row_table`` as a frame."""
        return self.row_table().to_pandas()

    def clouds(self) -> pd.DataFrame:
        """Return all sample clouds that are intact, ``points`` as arrays of shape (n, d)."""
        points, rest = [], []
        for part, table in self._clouds.intact():
            try:
                points += arrays_of(table["points"])
                rest.append(table.drop_columns("points"))
            except RecordError as error:
                self.files.leave_out(self._clouds.name(part), error)
        frame = self._clouds.concatenated(rest).drop_columns("points").to_pandas()
        return frame.assign(points=np.fromiter(points, object, len(points)))

    def losses(self) -> pd.DataFrame:
        """Return all training losses that are intact."""
        return self._losses.concatenated(table for _, table in self._losses.intact()).to_pandas()

    def read_rows(self, trial_id: str, epoch: int) -> pa.Table:
        """Return the rows of one checkpoint.

        Raises:
            RecordError: they are damaged.
        """
        return self._rows.read(part_name(trial_id, epoch))

    def read_clouds(self, trial_id: str, epoch: int) -> pa.Table:
        """Return the sample clouds of one checkpoint.

        Raises:
            RecordError: they are damaged.
        """
        return self._clouds.read(part_name(trial_id, epoch))

    def read_artifact(self, key: str) -> bytes | None:
        """Return a shared artifact, or None if it does not exist or is damaged."""
        name = artifact_name(key)
        try:
            content = self.files.read_record(name)
        except RecordError as error:
            self.files.leave_out(name, error)
            return None
        return None if content is None else unsealed_bytes(content)

    def write_artifact(self, key: str, content: bytes) -> None:
        """Store a shared artifact."""
        self.files.write_record(artifact_name(key), partial(sealed_bytes, content))

    def delete_artifact(self, key: str) -> None:
        """Delete a shared artifact if it exists."""
        self.files.delete(artifact_name(key))

    def check_part(self, folder: str, part: str) -> None:
        """Check a part of ``rows``, ``samples`` or ``losses``.

        Raises:
            RecordError: it is damaged.
        """
        tables = {"rows": self._rows, "samples": self._clouds, "losses": self._losses}
        tables[folder].read(part)

    def _delete_failure_if_complete(self, trial_id: str) -> None:
        part = part_name(trial_id, FAILED)
        if not self._rows.has(part):
            return
        try:
            failed = self._rows.read(part)
        except RecordError:
            return  # the next session sets it aside
        done = {(trial_id, epoch) for epoch in self.completed_epochs(trial_id)}
        if not _without(failed, done).num_rows:
            self.files.delete(self._rows.name(part))


def state_name(part: str) -> str:
    """Return the name of the training state of a checkpoint, relative to the run folder."""
    return f"checkpoints/{part}.safetensors"


def artifact_name(key: str) -> str:
    """Return the name of a shared artifact, relative to the run folder."""
    return f"artifacts/{key}"


def _without(failed: pa.Table, done: Collection[tuple[str, int] | None]) -> pa.Table:
    """Return the failed rows of a trial without those of checkpoints that were completed later."""
    trial_id = failed["trial"][0].as_py()
    epochs = [part[1] for part in done if part is not None and part[0] == trial_id]
    return failed.filter(
        pc.invert(pc.is_in(failed["epoch"], value_set=pa.array(epochs, type=pa.int64())))
    )


def _failed_rows(trial: Trial, reason: str, *, missing: Collection[int]) -> list[Row]:
    return [
        Row(
            trial=trial.id,
            label=trial.label,
            objective=trial.objective,
            correction=trial.correction,
            axes=json.dumps(dict(trial.axes)),
            replicate=replicate,
            epoch=epoch,
            **setting.columns(),
            status="failed",
            reason=reason,
        )
        for replicate in range(trial.replicates)
        for epoch in missing
        for setting in trial.settings
    ]
