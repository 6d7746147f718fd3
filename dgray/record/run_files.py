"""Files of a run, and the records among them, whose seals are checked when they are read."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgray.errors import RecordError
from dgray.files import inside, make_folder, sync_folder, write_atomically
from dgray.record.seal import KEY, Identity, identity_in, with_checksum
from dgray.record.storage.store_folder import StoreFolder

if TYPE_CHECKING:
    from dgray.record.storage.lease import LeasedStore
    from dgray.record.storage.store import Store

LOCK_FILE = "study.lock.yaml"
FORMAT_FILE = "run.json"
PLANNED_FILE = "planned.json"
PROVENANCE_FILE = "provenance.json"
DAMAGED = "damaged"  # folder of records that were set aside
EARLIER = "earlier"  # folder of records that are no longer part of the study
SEALED_FORMAT = 2  # first format of runs whose records all have seals
RUN_MARKS = (LOCK_FILE, FORMAT_FILE, "rows")  # a run has at least one, even if it is damaged


def can_be_resumed(names: Collection[str]) -> bool:
    """Return whether files with these names are those of a run, perhaps with one of them lost."""
    return LOCK_FILE in names or {FORMAT_FILE, PLANNED_FILE} <= set(names)


@dataclass(frozen=True)
class Seals:
    """Seals that the records of a run must have.

    Attributes:
        identity: study of the run; None: unknown, so it is not compared.
        is_required: whether every record must have a seal; older runs have records without.
    """

    identity: Identity | None
    is_required: bool

    def check(self, content: bytes, name: str) -> bool:
        """Return whether a record has a seal, which agrees with its content, name and study.

        Raises:
            RecordError: it does not agree, or there is none although it is required.
        """
        identity = identity_in(content, name)
        if identity is None and self.is_required:
            raise RecordError("damaged or of another origin: it has no checksum")
        if identity is not None and self.identity not in (None, identity):
            raise RecordError(f"of another study: {identity}, but this is {self.identity}")
        return identity is not None


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Add the name of the record to a RecordError that is raised inside the block."""
    try:
        yield
    except RecordError as error:
        error.name = name
        raise


class RunFiles:
    """Files of a run: a local folder, and the object store it is a working copy of, if any.

    Args:
        path: local folder; it need not exist before the first write.
        mirror: object store that holds the record. Files are written to it first, so that every
            file of the folder is in the store; large files may be in the store alone.
        seals: seals of its records; None: as in the files of the folder.

    Attributes:
        left_out: reasons of records that were skipped because they are damaged, by name.
    """

    def __init__(
        self,
        path: Path,
        mirror: Store | LeasedStore | StoreFolder | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.path, self.mirror = path, mirror
        self.left_out: dict[str, str] = {}
        if seals is not None:
            self.seals = seals

    @cached_property
    def seals(self) -> Seals:
        """Seals that records must have: those of most of the files that describe the run."""
        identities: dict[str, Identity] = {}
        is_damaged = False
        for name in (LOCK_FILE, FORMAT_FILE, PLANNED_FILE, PROVENANCE_FILE):
            try:
                identity = identity_in(self.read(name) or b"", name)
            except RecordError:
                is_damaged = True
                continue
            if identity is not None:
                identities[name] = identity
        if not identities:
            return Seals(None, is_damaged)
        ((identity, _),) = Counter(identities.values()).most_common(1)
        if identities.get(FORMAT_FILE) != identity:
            return Seals(identity, True)
        mark = json.loads(self.read(FORMAT_FILE) or b"")
        return Seals(identity, mark["format"] >= SEALED_FORMAT)

    def has(self, name: str) -> bool:
        """Return whether ``RUN/name`` is in the local folder."""
        return (self.path / name).exists()

    def names(self, folder: str) -> list[str]:
        """Return the names of all files in a folder of the run, in the store too, sorted."""
        paths = (self.path / folder).rglob("[!.]*")
        names = {path.relative_to(self.path).as_posix() for path in paths if path.is_file()}
        if self.mirror is not None:
            names |= set(self.mirror.entries(folder))
        return sorted(names)

    def read(self, name: str) -> bytes | None:
        """Return the content of ``RUN/name``, or None if it does not exist.

        Raises:
            RecordError: it cannot be read.
            StoreError: the store cannot be read.
        """
        path = inside(self.path, name)
        if not os.path.lexists(path):
            return None if self.mirror is None else self.mirror.read(name)
        if not path.is_file():  # a pipe would block
            raise RecordError("damaged: it is not a regular file")
        try:
            return path.read_bytes()
        except (OSError, MemoryError) as error:
            raise RecordError(f"damaged: it cannot be read ({error!r})") from error

    def read_record(self, name: str) -> bytes | None:
        """Return a record with its seal, after a check, or None if it does not exist.

        Raises:
            RecordError: it is damaged, misplaced, or belongs to another study.
        """
        with naming(name):
            content = self.read(name)
            if content is not None:
                self.seals.check(content, name)
        return content

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON record without its seal, or None if it does not exist.

        Raises:
            RecordError: as in ``read_record``; also if it is not a JSON object.
        """
        content = self.read_record(name)
        if content is None:
            return None
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"damaged: it is not JSON ({error})", name) from error
        if not isinstance(values, dict):
            raise RecordError("damaged: it must hold a JSON object", name)
        values.pop(KEY, None)
        return values

    def write(self, name: str, content: bytes) -> None:
        """Write ``RUN/name`` atomically."""
        path = inside(self.path, name)
        if self.mirror is not None:
            self.mirror.write(name, content)
        write_atomically(path, lambda file: file.write(content))

    def write_record(self, name: str, sealed: Callable[[str], bytes]) -> None:
        """Write a record atomically.

        Args:
            name: name relative to the run.
            sealed: returns the content with a seal; see ``dgray.record.seal``.
        """
        identity = self.seals.identity or Identity("", "", "")
        self.write(name, with_checksum(sealed(identity.seal(name))))

    def delete(self, name: str) -> None:
        """Delete ``RUN/name`` if it exists."""
        inside(self.path, name).unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.delete(name)

    def set_aside(self, name: str) -> None:
        """Move a record to ``RUN/damaged``, so that it counts as missing."""
        self.move(name, self.below(DAMAGED))

    def below(self, folder: str) -> RunFiles:
        """Return the files of a folder of the run, whose names are those of the run's records."""
        mirror = None if self.mirror is None else StoreFolder(self.mirror, folder)
        return RunFiles(inside(self.path, folder), mirror, self.seals)

    def move(self, name: str, target: RunFiles) -> None:
        """Move a file to the files of another folder, where it has the same name."""
        path, new_path = inside(self.path, name), inside(target.path, name)
        if self.mirror is not None:
            target.write(name, self.mirror.read(name) or b"")
            self.delete(name)
        elif os.path.lexists(path):
            make_folder(new_path.parent)
            os.replace(path, new_path)
            sync_folder(new_path.parent)
            sync_folder(path.parent)

    def leave_out(self, name: str, error: RecordError) -> None:
        """Note a record that is skipped."""
        self.left_out[name] = error.reason
