"""Tables of a run: sealed Parquet files of rows, sample clouds or losses, a part a checkpoint."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dgray.catalogue import GUIDANCE, SETTING_COLUMNS, ColumnSpec
from dgray.errors import RecordError
from dgray.record.row import LossPoint, Row
from dgray.record.row_schema import Record, added_columns, arrow_schema, to_table
from dgray.record.run_files import RunFiles, naming
from dgray.record.seal import sealed_table

FAILED = "failed"
_PART = re.compile(rf"(?P<trial>.+)-(?P<epoch>[0-9]{{6,18}}|{FAILED})")
_BATCH = 100  # parts that are copied to one
_FILES = "files"  # in the metadata of rows
_KEY = ("replicate", *SETTING_COLUMNS)  # of a row within its checkpoint


class Tables:
    """Parquet files of one record type in one folder of a run, a part per checkpoint."""

    def __init__(self, files: RunFiles, folder: str, record: type[Record]) -> None:
        self._files, self._folder, self._record = files, folder, record

    def name(self, part: str) -> str:
        """Return the name of a part relative to the run folder."""
        return f"{self._folder}/{part}.parquet"

    def has(self, part: str) -> bool:
        """Return whether a part exists."""
        return self._files.has(self.name(part))

    def parts(self) -> list[str]:
        """Return the names of all parts, sorted."""
        paths = sorted((self._files.path / self._folder).glob("*.parquet"))
        return [path.stem for path in paths if not path.name.startswith(".")]

    def write(
        self,
        part: str,
        records: Sequence[Record],
        added: Sequence[ColumnSpec] = (),
        files: Sequence[str] | None = None,
    ) -> None:
        """Write the records of a part, rows with added columns; no records make no part.

        Columns without values, and the descriptions of dgray's own columns, are left out.

        Args:
            part: the part.
            records: its records.
            added: columns that are not dgray's own.
            files: names of the other files of the checkpoint, listed in its metadata.
        """
        if not records:
            return
        table = _stored(to_table(records, self._record, added), {column.name for column in added})
        metadata = {} if files is None else {_FILES: json.dumps(files)}
        seal = partial(sealed_table, table, store_schema=bool(added), metadata=metadata)
        self._files.write_record(self.name(part), seal)

    def listed_files(self, part: str) -> list[str] | None:
        """Return the other files of a checkpoint; None if its rows list none or are damaged."""
        try:
            content = self._files.read_record(self.name(part)) or b""
            metadata = pq.read_metadata(pa.BufferReader(content)).metadata or {}
            return list(map(str, json.loads(metadata[_FILES.encode()])))
        except (RecordError, pa.ArrowException, OSError, ValueError, KeyError, TypeError):
            return None

    def read(self, part: str) -> pa.Table:
        """Return a part with all columns; an empty table if it does not exist.

        Raises:
            RecordError: it is damaged, misplaced, or belongs to another study or checkpoint.
        """
        with naming(self.name(part)):
            content = self._files.read_record(self.name(part))
            if content is None:
                return arrow_schema(self._record).empty_table()
            table = self._parsed(content)
            self._check(table, part)
            return table

    def intact(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield all parts that are intact and fit together; leave the others out."""
        schema = arrow_schema(self._record)
        for part in self.parts():
            try:
                table = self.read(part)
                schema = _unified(schema, table.schema)
                yield part, table
            except RecordError as error:
                self._files.leave_out(self.name(part), error)

    def concatenated(self, tables: Iterable[pa.Table]) -> pa.Table:
        """Return tables as one; older parts may lack newer columns.

        Parts are copied a hundred at a time, as each column of a part has a buffer of its own.
        """
        joined = [arrow_schema(self._record).empty_table()]
        parts = iter(tables)
        while batch := list(itertools.islice(parts, _BATCH)):
            whole = pa.concat_tables(batch, promote_options="default")
            joined.append(whole.combine_chunks())
        return pa.concat_tables(joined, promote_options="default")

    def _parsed(self, content: bytes) -> pa.Table:
        try:
            # Of a small file, ``pq.read_table`` and threads would double the time.
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                table = file.read(use_threads=False).replace_schema_metadata(None)
            table = _with_all_columns(table, self._record)
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            reason = (str(error) or repr(error)).splitlines()[0]
            raise RecordError(f"damaged: not a table of {self._folder} ({reason})") from error
        return table

    def _check(self, table: pa.Table, part: str) -> None:
        """Check that the content belongs to the part: also records without a seal are checked."""
        match = _PART.fullmatch(part)
        if match is None or not table.num_rows:
            raise RecordError("damaged: its name is not that of a checkpoint, or it has no rows")
        epochs = table["epoch"].to_pylist()
        is_failed = match["epoch"] == FAILED
        epoch = max(epochs) if is_failed else int(match["epoch"])
        # Losses are those of the epochs since the checkpoint before.
        if self._record is not LossPoint and not is_failed and min(epochs) != epoch:
            raise RecordError(f"misplaced: it holds epoch {min(epochs)}")
        trials = set(table["trial"].to_pylist())
        if max(epochs) > epoch or trials != {match["trial"]}:
            raise RecordError(f"misplaced: it holds {sorted(trials)}, epoch {max(epochs)}")
        if self._record is Row:
            _check_rows(table, is_failed)


def arrays_of(points: pa.ChunkedArray) -> list[np.ndarray]:
    """Return the points of each cloud; as Python objects they would take ten times the memory."""
    lists = points.combine_chunks()
    outer, inner = lists.offsets.to_numpy(), lists.values.offsets.to_numpy()
    values = lists.values.values.to_numpy(zero_copy_only=False)
    arrays = []
    for start, stop in itertools.pairwise(outer):
        sizes = set(np.diff(inner[start : stop + 1]).tolist()) or {0}
        if len(sizes) > 1:
            raise RecordError("damaged: points of one cloud differ in their coordinates")
        arrays.append(values[inner[start] : inner[stop]].reshape(stop - start, *sizes))
    return arrays


def trial_and_epoch(part: str) -> tuple[str, int] | None:
    """Return trial and epoch of a part or its file; None for failed rows and other names."""
    match = _PART.fullmatch(_part_of(part))
    return (match["trial"], int(match["epoch"])) if match and match["epoch"] != FAILED else None


def trial_of(name: str) -> str | None:
    """Return the trial of a part by its file name, also of failed rows; None for other names."""
    match = _PART.fullmatch(_part_of(name))
    return match["trial"] if match else None


def _part_of(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".parquet").removesuffix(".safetensors")


def part_name(trial_id: str, epoch: int | str) -> str:
    """Return the name of a part: of an epoch, or of the failed rows of a trial."""
    return f"{trial_id}-{epoch}" if isinstance(epoch, str) else f"{trial_id}-{epoch:06d}"


def _check_rows(table: pa.Table, is_failed: bool) -> None:
    keys = table.select(["epoch", *_KEY]).to_pylist()
    if len({tuple(key.values()) for key in keys}) < len(keys):
        raise RecordError("damaged: it holds rows of the same replicate and setting twice")
    if not set(table["status"].to_pylist()) <= ({FAILED} if is_failed else {"ok", FAILED}):
        raise RecordError("damaged: a row has another status")
    for text in set(table["axes"].to_pylist()):
        try:
            is_object = isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            raise RecordError("damaged: its axes must be a JSON object")


def _stored(table: pa.Table, described: set[str]) -> pa.Table:
    """Return what is stored of a table: no columns without values, few descriptions."""
    kept = [
        field if field.name in described else field.remove_metadata()
        for field in table.schema
        if field.name in described
        or not field.nullable
        or table[field.name].null_count < table.num_rows
    ]
    return table.select([field.name for field in kept]).cast(pa.schema(kept))


def _with_all_columns(table: pa.Table, record: type[Record]) -> pa.Table:
    if record is Row and "correction" not in table.column_names:  # of a run before there were any
        is_base = pc.equal(table["objective"], "base")
        table = table.append_column("correction", pc.if_else(is_base, "base", GUIDANCE))
    schema = arrow_schema(record, added_columns(table.schema) if record is Row else ())
    names = set(table.column_names)
    columns = [
        table[field.name].cast(field.type)
        if field.name in names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    for field, column in zip(schema, columns, strict=True):
        if column.null_count and not field.nullable:
            raise ValueError(f"column {field.name} must have values")
    return pa.table(columns, schema=schema)


def _unified(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    if other.equals(schema):
        return schema
    try:
        return pa.unify_schemas([schema, other])
    except pa.ArrowException as error:
        raise RecordError(f"damaged: its columns differ from those before ({error})") from error
