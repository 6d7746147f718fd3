"""Folder of one run of a study: the record from which the run is resumed and reported.

    RUN/rows/TRIAL-EPOCH.parquet       results of a checkpoint; the file marks it as complete
    RUN/rows/TRIAL-failed.parquet      failed rows of the checkpoints a trial did not complete
    RUN/samples/, RUN/losses/          sample clouds and training losses, one file per checkpoint
    RUN/checkpoints/TRIAL-EPOCH.safetensors
    RUN/artifacts/KEY                  artifacts that trials share

Every file is written atomically, the rows of a checkpoint last.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dgray.catalogue import ColumnSpec
from dgray.files import write_atomically
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from dgray.record.row_schema import Record, added_columns, arrow_schema, to_table

if TYPE_CHECKING:
    import pandas as pd

    from dgray.plan.plan import Trial
    from dgray.record.storage.lease import LeasedStore
    from dgray.record.storage.store import Store

_PART = re.compile(r"(?P<trial>[^.].*)-(?P<epoch>\d{6,})\.parquet")


class RunFiles:
    """Files of a run: a local folder, and the object store it is a working copy of, if any.

    Args:
        path: local folder; it need not exist before the first write.
        mirror: object store that holds the record. Files are written to it first, so that every
            file of the folder is in the store; large files may be in the store alone.
    """

    def __init__(self, path: Path, mirror: Store | LeasedStore | None = None) -> None:
        self.path, self.mirror = path, mirror

    def read(self, name: str) -> bytes | None:
        """Return the content of ``RUN/name``, or None if it does not exist."""
        path = self.path / name
        if path.exists():
            return path.read_bytes()
        return None if self.mirror is None else self.mirror.read(name)

    def write(self, name: str, content: bytes) -> None:
        """Write ``RUN/name`` atomically."""
        if self.mirror is not None:
            self.mirror.write(name, content)
        write_atomically(self.path / name, lambda file: file.write(content))

    def delete(self, name: str) -> None:
        """Delete ``RUN/name`` if it exists."""
        (self.path / name).unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.delete(name)


class Tables:
    """Parquet files of one record type in one folder of a run, a part per checkpoint."""

    def __init__(self, files: RunFiles, folder: str, record: type[Record]) -> None:
        self._files, self._folder, self._record = files, folder, record

    def name(self, part: str) -> str:
        """Return the name of a part relative to the run folder."""
        return f"{self._folder}/{part}.parquet"

    def has(self, part: str) -> bool:
        """Return whether a part exists."""
        return (self._files.path / self.name(part)).exists()

    def paths(self) -> list[Path]:
        """Return the files of all parts, sorted by name."""
        return sorted((self._files.path / self._folder).glob("*.parquet"))

    def write(
        self, part: str, records: Sequence[Record], added: Sequence[ColumnSpec] = ()
    ) -> None:
        """Write the records of a part, rows with added columns; no records make no part."""
        if not records:
            return
        content = io.BytesIO()
        pq.write_table(to_table(records, self._record, added), content, compression="zstd")
        self._files.write(self.name(part), content.getvalue())

    def read(self, part: str) -> pa.Table:
        """Return a part; an empty table if it does not exist."""
        if not self.has(part):
            return arrow_schema(self._record).empty_table()
        return pq.read_table(self._files.path / self.name(part), partitioning=None)

    def concatenated(self, tables: Iterable[pa.Table] | None = None) -> pa.Table:
        """Return these tables, or all parts, as one; older parts may lack newer columns."""
        if tables is None:
            tables = (self.read(path.stem) for path in self.paths())
        return pa.concat_tables(
            [*tables] or [arrow_schema(self._record).empty_table()], promote_options="default"
        )


class RunFolder:
    """Reads and writes the record of a run; ``open_run`` creates or resumes one for a driver.

    Args:
        path: local folder of the run.
        mirror: see ``RunFiles``.
        where: place to show to the user, if it is not ``path``.
    """

    def __init__(
        self,
        path: Path,
        mirror: Store | LeasedStore | None = None,
        where: Path | str | None = None,
    ) -> None:
        self.path, self.where = path, path if where is None else where
        self.files = RunFiles(path, mirror)
        self._rows = Tables(self.files, "rows", Row)
        self._clouds = Tables(self.files, "samples", Cloud)
        self._losses = Tables(self.files, "losses", LossPoint)
        self._left_out: dict[str, str] = {}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files of the record that were not used, each with its reason; the report names them."""
        return tuple(f"{name}: {reason}" for name, reason in sorted(self._left_out.items()))

    def leave_out(self, name: str, reason: str) -> None:
        """Record that ``RUN/name`` is not used; ``reason``: what is wrong with it."""
        self._left_out[name] = reason

    def parts_without_rows(self) -> list[str]:
        """Return the checkpoints, as ``TRIAL-EPOCH``, of which there are files but no rows."""
        folders = ("samples", "losses", "checkpoints")
        stems = {path.stem for name in folders for path in (self.path / name).glob("*")}
        return sorted(
            s for s in stems if _PART.fullmatch(f"{s}.parquet") and not self._rows.has(s)
        )

    def write_result(self, result: CheckpointResult) -> None:
        """Store one checkpoint, which marks it as complete."""
        part = _part(result.trial, result.epoch)
        self._clouds.write(part, result.clouds)
        self._losses.write(part, result.losses)
        if result.state is not None:
            self.files.write(_state_name(part), result.state)
        self._rows.write(part, result.rows, result.columns)
        self._delete_failure_if_complete(result.trial)

    def read_result(self, trial_id: str, epoch: int) -> CheckpointResult:
        """Return one checkpoint as it was written; it must exist."""
        part = _part(trial_id, epoch)
        rows = self._rows.read(part)
        return CheckpointResult(
            trial=trial_id,
            epoch=epoch,
            rows=tuple(Row.from_columns(row) for row in rows.to_pylist()),
            clouds=tuple(Cloud(**cloud) for cloud in self._clouds.read(part).to_pylist()),
            losses=tuple(LossPoint(**point) for point in self._losses.read(part).to_pylist()),
            state=self.files.read(_state_name(part)),
            columns=added_columns(rows.schema),
        )

    def completed_epochs(self, trial_id: str) -> set[int]:
        """Return the epochs of the complete checkpoints of a trial."""
        matches = (_PART.fullmatch(path.name) for path in self._rows.paths())
        return {int(m["epoch"]) for m in matches if m and m["trial"] == trial_id}

    def load_state(self, trial_id: str, epochs: Sequence[int]) -> tuple[int, bytes] | None:
        """Return the last training state before which no checkpoint is missing, with its epoch.

        Args:
            trial_id: id of the trial.
            epochs: checkpoints of the trial, increasing.
        """
        done = itertools.takewhile(lambda e: self._rows.has(_part(trial_id, e)), epochs)
        for epoch in reversed(list(done)):
            state = self.files.read(_state_name(_part(trial_id, epoch)))
            if state is not None:
                return epoch, state
        return None

    def write_failure(self, trial: Trial, reason: str) -> None:
        """Write a failed row for each row that the trial has not completed."""
        rows = _failed_rows(trial, reason, missing=self.missing_epochs(trial))
        self._rows.write(f"{trial.id}-failed", rows)

    def missing_epochs(self, trial: Trial) -> list[int]:
        """Return the checkpoints of the trial that are not complete."""
        return [epoch for epoch in trial.epochs if not self._rows.has(_part(trial.id, epoch))]

    def missing_rows(self, trials: Iterable[Trial]) -> int:
        """Return the number of rows these trials have not completed (failed rows included)."""
        return sum(
            len(self.missing_epochs(trial)) * trial.replicates * len(trial.settings)
            for trial in trials
        )

    def row_table(self) -> pa.Table:
        """Return all rows; failed rows only of checkpoints that are not complete."""
        tables = []
        for path in self._rows.paths():
            table = self._rows.read(path.stem)
            tables.append(table if _PART.fullmatch(path.name) else self._incomplete(table))
        return self._rows.concatenated(tables)

    def rows(self) -> pd.DataFrame:
        """Return ``row_table`` as a frame."""
        return self.row_table().to_pandas()

    def clouds(self) -> pd.DataFrame:
        """Return all sample clouds."""
        return self._clouds.concatenated().to_pandas()

    def losses(self) -> pd.DataFrame:
        """Return all training losses."""
        return self._losses.concatenated().to_pandas()

    def checkpoint(
        self, trial_id: str, epoch: int
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return the rows, sample clouds and training losses of one checkpoint."""
        part = _part(trial_id, epoch)
        rows, clouds, losses = (
            tables.read(part).to_pandas() for tables in (self._rows, self._clouds, self._losses)
        )
        return rows, clouds, losses

    def read_artifact(self, key: str) -> bytes | None:
        """Return a shared artifact, or None if it does not exist."""
        return self.files.read(f"artifacts/{key}")

    def write_artifact(self, key: str, content: bytes) -> None:
        """Store a shared artifact."""
        self.files.write(f"artifacts/{key}", content)

    def delete_artifact(self, key: str) -> None:
        """Delete a shared artifact if it exists."""
        self.files.delete(f"artifacts/{key}")

    def _incomplete(self, failed: pa.Table) -> pa.Table:
        """Return the failed rows of a trial without checkpoints that were completed later."""
        trial_id = failed["trial"][0].as_py()
        done = pa.array(sorted(self.completed_epochs(trial_id)), type=pa.int64())
        return failed.filter(pc.invert(pc.is_in(failed["epoch"], value_set=done)))

    def _delete_failure_if_complete(self, trial_id: str) -> None:
        part = f"{trial_id}-failed"
        if self._rows.has(part) and not self._incomplete(self._rows.read(part)).num_rows:
            self.files.delete(self._rows.name(part))


def _part(trial_id: str, epoch: int) -> str:
    return f"{trial_id}-{epoch:06d}"


def _state_name(part: str) -> str:
    return f"checkpoints/{part}.safetensors"


def _failed_rows(trial: Trial, reason: str, *, missing: Collection[int]) -> list[Row]:
    return [
        Row(
            trial=trial.id,
            label=trial.label,
            objective=trial.objective,
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
