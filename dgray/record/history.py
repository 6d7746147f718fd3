"""History of a run in ``study.lock.yaml``: its studies and their dates, in comments at the end.

    # Time of the start, and the fields that changed:
    # 2026-11-27T03:00:00+00:00 {}
    # 2026-11-27T04:00:00+00:00 {"evaluate.guidance_weight": {"before": [1.0], "now": [1.0, 2.0]}}

So the lock file remains a study file. The earlier studies of the run follow from its fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dgray.plan.growth import ABSENT, Change

_TITLE = "# Time of the start, and the fields that changed:"
_EARLIER_TITLE = "# Asked at, and the fields that changed:"  # of runs before this wording
_LINE = re.compile(r"# (?P<time>\S+) (?P<fields>\{.*\})")


@dataclass(frozen=True)
class HistoryEntry:
    """A study that the run was started with.

    Attributes:
        time: UTC, ISO 8601; ``unknown`` if it was not recorded.
        changes: fields that differ from the study before; empty for the first.
    """

    time: str
    changes: tuple[Change, ...] = ()

    @staticmethod
    def now(changes: Sequence[Change] = ()) -> HistoryEntry:
        """Return an entry of this moment."""
        return HistoryEntry(datetime.now(UTC).isoformat(timespec="seconds"), tuple(changes))


def with_history(lock: str, history: Sequence[HistoryEntry]) -> str:
    """Return the text of a lock file with the history at its end, the oldest study first."""
    lines = [_TITLE, *(f"# {entry.time} {_fields(entry.changes)}" for entry in history)]
    return lock + "\n".join(lines) + "\n"


def history_in(lock: str) -> list[HistoryEntry]:
    """Return the history in a lock file; empty if it has none."""
    title = next((title for title in (_TITLE, _EARLIER_TITLE) if f"\n{title}\n" in lock), None)
    if title is None:
        return []
    lines = lock.rpartition(f"\n{title}\n")[2].splitlines()
    matches = [match for match in map(_LINE.fullmatch, lines) if match is not None]
    return [HistoryEntry(match["time"], _changes(match["fields"])) for match in matches]


def earlier_fields(
    fields: Mapping[str, Any], history: Sequence[HistoryEntry]
) -> list[dict[str, Any]]:
    """Return the fields of the earlier studies by dotted path, the newest first.

    Args:
        fields: those of the newest study.
        history: studies of the run, the oldest first.
    """
    earlier, current = [], dict(fields)
    for entry in reversed(history[1:]):
        current = dict(current)
        for change in entry.changes:
            current[change.field] = change.before
        current = {field: value for field, value in current.items() if value != ABSENT}
        earlier.append(current)
    return earlier


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by dotted path as sections."""
    sections: dict[str, Any] = {}
    for field, value in fields.items():
        *path, name = field.split(".")
        section = sections
        for part in path:
            section = section.setdefault(part, {})
        section[name] = value
    return sections


def _fields(changes: Sequence[Change]) -> str:
    values = {change.field: {"before": change.before, "now": change.now} for change in changes}
    return json.dumps(values, default=str)


def _changes(text: str) -> tuple[Change, ...]:
    try:
        values = json.loads(text)
        return tuple(Change(field, v["before"], v["now"]) for field, v in values.items())
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()  # edited by hand: the states of this study are not found
