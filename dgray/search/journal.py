"""Optuna's storage of a run: kept in memory, with a copy in a file for dashboards.

The driver reads only what it wrote itself and takes no lock. So changes made in a dashboard (which
can delete and rename studies) do not affect a search, and no lock left by a killed process blocks
one, as that of Optuna's own backend can (with a relative path it never expires). The file may be
lost: the events of ``dgray.search.records`` are the record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from typing_extensions import override

_CONSTRAINTS = "constraints"


def open_journal(path: Path) -> BaseStorage:
    """Return a storage without studies whose copy is appended to ``path``.

    The log of earlier sessions stays in the file, followed by the deletion of their studies,
    because a dashboard that has the file open continues from its last position.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = JournalStorage(JournalCopy(path))
        for name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        return storage
    except Exception:  # damaged, or of another version: nothing in it is needed
        path.unlink(missing_ok=True)
        return JournalStorage(JournalCopy(path))


class JournalCopy(BaseJournalBackend):
    """Log of one writer, in the format of Optuna's ``JournalFileBackend``."""

    def __init__(self, path: Path) -> None:
        """Read the complete lines of the file; cut off a partial one."""
        self._path = path
        content = path.read_bytes() if path.exists() else b""
        complete = content[: content.rfind(b"\n") + 1]
        with path.open("ab") as file:
            file.truncate(len(complete))
        self._lines = complete.splitlines()
        self._constraints: dict[int, dict[str, float]] = {}

    @override
    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._lines[log_number_from:])

    @override
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lines += [_line(log) for log in logs]
        shown = [_line(self._for_dashboards(log)) for log in logs]
        with self._path.open("ab", buffering=0) as file:  # one write: readers see complete lines
            file.write(b"".join(line + b"\n" for line in shown))

    def _for_dashboards(self, log: dict[str, Any]) -> dict[str, Any]:
        """Convert constraints to a list, the form of Optuna 4 that dashboards up to 0.21 read."""
        for name, value in log.get("system_attr", {}).items():
            if "trial_id" in log and name.startswith(f"{_CONSTRAINTS}:"):
                values = self._constraints.setdefault(log["trial_id"], {})
                values[name] = value
                return {**log, "system_attr": {_CONSTRAINTS: list(values.values())}}
        return log


def _line(log: dict[str, Any]) -> bytes:
    return json.dumps(log, separators=(",", ":")).encode()
