"""The folder of one run of a study: the record from which it is resumed and reported.

    RUN/rows/TRIAL-EPOCH.parquet       what was measured; its presence means the checkpoint is done
    RUN/rows/TRIAL-failed.parquet      the cells that a failed trial owes, with the reason
    RUN/samples/, RUN/losses/          sample clouds and training losses, one part a checkpoint
    RUN/checkpoints/TRIAL-EPOCH.safetensors
    RUN/artifacts/KEY                  what trials share

Every file is written beside and renamed, the rows of a checkpoint last. With a mirror, an object
store that is the record, every file is put there first: what is here is there. Knows pyarrow
(pandas when read); neither torch nor Ray.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dgray.files import write_atomically
from dgray.record.row import CheckpointResult, Cloud, LossPoint, Row
from dgray.record.row_schema import Record, arrow_schema, to_table

if TYPE_CHECKING:
    import pandas as pd

    from dgray.plan.plan import Trial

_PART = re.compile(r"(?P<trial>.+)-(?P<epoch>\d{6,})\.parquet")


class Mirror(Protocol):
    """Where every file of a run folder is too, by the same name (``dgray.record.storage``)."""

    def read(self, name: str) -> bytes | None:
        """A file's content, or None."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, whole or not at all."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


class RunFolder:
    """Reads and writes a run folder; ``open_run`` makes or resumes one for a driver."""

    def __init__(self, path: Path, mirror: Mirror | None = None) -> None:
        """``path``: the folder, which need not exist before the first write.

        ``mirror``: holds the record; the folder is a copy, perhaps without checkpoints and
        artifacts.
        """
        self.path = path
        self.where: Path | str = path  # as the user knows it: a URI where there is a mirror
        self.mirror = mirror

    def write_result(self, result: CheckpointResult) -> None:
        """Store one checkpoint; afterwards it is never computed again."""
        part = f"{result.trial}-{result.epoch:06d}"
        if result.clouds:
            self._write_table("samples", part, to_table(result.clouds, Cloud))
        if result.losses:
            self._write_table("losses", part, to_table(result.losses, LossPoint))
        if result.state is not None:
            self.write_file(f"checkpoints/{part}.safetensors", result.state)
        self._write_table("rows", part, to_table(result.rows, Row))
        self._forget_failure_if_complete(result.trial)

    def read_result(self, trial_id: str, epoch: int) -> CheckpointResult:
        """One checkpoint as it was written; it must be there."""
        part = f"{trial_id}-{epoch:06d}"
        rows = self._read_table("rows", part, Row).to_pylist()
        clouds = self._read_table("samples", part, Cloud).to_pylist()
        losses = self._read_table("losses", part, LossPoint).to_pylist()
        return CheckpointResult(
            trial=trial_id,
            epoch=epoch,
            rows=tuple(Row(**row) for row in rows),
            clouds=tuple(Cloud(**cloud) for cloud in clouds),
            losses=tuple(LossPoint(**point) for point in losses),
            state=self._read_file(f"checkpoints/{part}.safetensors"),
        )

    def completed_epochs(self, trial_id: str) -> set[int]:
        """Checkpoints of this trial whose rows are there."""
        matches = (_PART.fullmatch(p.name) for p in (self.path / "rows").glob("*.parquet"))
        return {int(m["epoch"]) for m in matches if m and m["trial"] == trial_id}

    def load_state(self, trial_id: str, epochs: Sequence[int]) -> tuple[int, bytes] | None:
        """Newest state from which no row is missing; ``epochs``: the trial's, increasing."""
        done = itertools.takewhile(lambda epoch: self._is_done(trial_id, epoch), epochs)
        for epoch in reversed(list(done)):
            state = self._read_file(f"checkpoints/{trial_id}-{epoch:06d}.safetensors")
            if state is not None:
                return epoch, state
        return None

    def write_failure(self, trial: Trial, reason: str) -> None:
        """Put a failed row where each of the trial's missing cells would be."""
        rows = _failed_rows(trial, reason, missing=self.missing_epochs(trial))
        if rows:
            self._write_table("rows", f"{trial.id}-failed", to_table(rows, Row))

    def missing_epochs(self, trial: Trial) -> list[int]:
        """Checkpoints that the trial still owes."""
        return [epoch for epoch in trial.epochs if not self._is_done(trial.id, epoch)]

    def missing_rows(self, trials: Iterable[Trial]) -> int:
        """How many rows these trials still owe (a failed row is owed)."""
        return sum(
            len(self.missing_epochs(trial)) * trial.replicates * len(trial.settings)
            for trial in trials
        )

    def rows(self) -> pd.DataFrame:
        """All rows, those of failed trials included; failed rows of done checkpoints are not."""
        return self._read("rows", Row).to_pandas()

    def clouds(self) -> pd.DataFrame:
        """All sample clouds."""
        return self._read("samples", Cloud).to_pandas()

    def losses(self) -> pd.DataFrame:
        """All training losses."""
        return self._read("losses", LossPoint).to_pandas()

    def checkpoint(
        self, trial_id: str, epoch: int
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Rows, sample clouds and training losses of one checkpoint."""
        part = f"{trial_id}-{epoch:06d}"
        return (
            self._read_table("rows", part, Row).to_pandas(),
            self._read_table("samples", part, Cloud).to_pandas(),
            self._read_table("losses", part, LossPoint).to_pandas(),
        )

    def read_artifact(self, key: str) -> bytes | None:
        """The artifact of this key, or None if it is not there yet."""
        return self._read_file(f"artifacts/{key}")

    def write_artifact(self, key: str, content: bytes) -> None:
        """Store the artifact of this key."""
        self.write_file(f"artifacts/{key}", content)

    def delete_artifact(self, key: str) -> None:
        """Forget the artifact of this key, if it is there."""
        self._delete_file(f"artifacts/{key}")

    def write_file(self, name: str, content: bytes) -> None:
        """Write ``RUN/name`` whole or not at all."""
        if self.mirror is not None:
            self.mirror.write(name, content)  # first: what is in the folder counts as done
        write_atomically(self.path / name, lambda file: file.write(content))

    def _read_file(self, name: str) -> bytes | None:
        path = self.path / name
        if path.exists():
            return path.read_bytes()
        return None if self.mirror is None else self.mirror.read(name)

    def _delete_file(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.delete(name)

    def _is_done(self, trial_id: str, epoch: int) -> bool:
        return (self.path / "rows" / f"{trial_id}-{epoch:06d}.parquet").exists()

    def _write_table(self, folder: str, part: str, table: pa.Table) -> None:
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        self.write_file(f"{folder}/{part}.parquet", content.getvalue())

    def _read_table(self, folder: str, part: str, record: type[Record]) -> pa.Table:
        path = self.path / folder / f"{part}.parquet"
        if not path.exists():  # a checkpoint without clouds or losses
            return arrow_schema(record).empty_table()
        return pq.read_table(path, partitioning=None)

    def _read(self, folder: str, record: type[Record]) -> pa.Table:
        tables = []
        for path in sorted((self.path / folder).glob("*.parquet")):
            table = pq.read_table(path, partitioning=None)
            if folder == "rows" and not _PART.fullmatch(path.name):
                table = self._without_done(table)
            tables.append(table)
        schema = arrow_schema(record)
        return (
            pa.concat_tables(tables, promote_options="default")  # columns came with versions
            if tables
            else schema.empty_table()
        )

    def _without_done(self, failed: pa.Table) -> pa.Table:
        """Failed rows minus the checkpoints that a later session completed."""
        trial_id = failed["trial"][0].as_py()
        done = pa.array(sorted(self.completed_epochs(trial_id)), type=pa.int64())
        return failed.filter(pc.invert(pc.is_in(failed["epoch"], value_set=done)))

    def _forget_failure_if_complete(self, trial_id: str) -> None:
        name = f"rows/{trial_id}-failed.parquet"
        path = self.path / name
        if path.exists() and not self._without_done(pq.read_table(path)).num_rows:
            self._delete_file(name)


def _failed_rows(trial: Trial, reason: str, *, missing: Collection[int]) -> list[Row]:
    return [
        Row(
            trial=trial.id,
            label=trial.label,
            objective=trial.objective,
            axes=json.dumps(dict(trial.axes)),
            replicate=replicate,
            epoch=epoch,
            is_calibrated=setting.is_calibrated,
            guidance_weight=setting.guidance_weight,
            sampler=setting.sampler,
            num_steps=setting.num_steps,
            guided_stage=setting.guided_stage,
            interval_low=setting.interval[0] if setting.interval else None,
            interval_high=setting.interval[1] if setting.interval else None,
            status="failed",
            reason=reason,
        )
        for replicate in range(trial.replicates)
        for epoch in missing
        for setting in trial.settings
    ]
