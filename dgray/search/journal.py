"""Optuna's storage of a run: the driver's own in memory, and a copy in a file for dashboards.

The driver reads what it wrote itself and takes no lock. So nothing that is done in a dashboard
(which can delete and rename studies) reaches a search, and no lock that a killed process left
behind stops one: that of Optuna's own backend never expires where the path is relative. The file
may be lost: the events of ``dgray.search.records`` are the record. Knows Optuna alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend

_CONSTRAINTS = "constraints"


def open_journal(path: Path) -> BaseStorage:
    """A storage without studies, whose copy is appended to ``path``.

    What earlier sessions wrote stays in the file, their studies deleted, so that a dashboard that
    has it open goes on: it remembers how far it has read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = JournalStorage(JournalCopy(path))
        for name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        return storage
    except Exception:  # of another Optuna, or damaged: whatever is wrong, nothing in it is needed
        path.unlink(missing_ok=True)
        return JournalStorage(JournalCopy(path))


class JournalCopy(BaseJournalBackend):
    """The log of one writer, in the format of Optuna's ``JournalFileBackend``."""

    def __init__(self, path: Path) -> None:
        """Begin with the whole lines that are there."""
        self._path = path
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        with path.open("ab") as file:
            file.truncate(len(whole))  # the writer was killed within a line
        self._lines = whole.splitlines()
        self._constraints: dict[int, dict[str, float]] = {}

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """See ``BaseJournalBackend``."""
        return map(json.loads, self._lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """See ``BaseJournalBackend``."""
        self._lines += [_line(log) for log in logs]
        shown = [_line(self._for_dashboards(log)) for log in logs]
        with self._path.open("ab", buffering=0) as file:  # one write: readers see whole lines
            file.write(b"".join(line + b"\n" for line in shown))

    def _for_dashboards(self, log: dict[str, Any]) -> dict[str, Any]:
        """Constraints as a list, Optuna 4's form: dashboards up to 0.21 know no other."""
        for name, value in log.get("system_attr", {}).items():
            if "trial_id" in log and name.startswith(f"{_CONSTRAINTS}:"):
                found = self._constraints.setdefault(log["trial_id"], {})
                found[name] = value
                return {**log, "system_attr": {_CONSTRAINTS: list(found.values())}}
        return log


def _line(log: dict[str, Any]) -> bytes:
    return json.dumps(log, separators=(",", ":")).encode()
