"""Which folder a run of a study writes into: a new one, or that of the same study, to be resumed.

Nothing is ever deleted here but half-written files. Knows files; neither torch nor Ray.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dgray.atomic_file import remove_partial_files
from dgray.config.load import lock_text
from dgray.plan import Plan
from dgray.run_folder import RunFolder
from dgray.run_lock import RunLock, RunRefused

LOCK_FILE = "study.lock.yaml"
# Fields that change no metric of any row: a run may be resumed under other values.
FREE_FIELDS = (
    "description",
    "resources.max_concurrent_trials",
    "resources.max_failures",
    "resources.sampling_actors",
    "resources.trial_time_limit",
)
_SHOWN = 5


class OpenRun(RunFolder):
    """A run folder that this process alone writes, until ``close``."""

    def __init__(self, path: Path, *, is_resumed: bool) -> None:
        """Take the folder's lock. ``is_resumed``: rows of an earlier session may be there."""
        super().__init__(path)
        self.is_resumed = is_resumed
        self._lock = RunLock(path)

    def close(self) -> None:
        """Let another driver have the folder."""
        self._lock.release()


def open_run(plan: Plan, out: Path | None, fresh: bool) -> OpenRun:
    """The folder for ``plan``, locked: ``out`` or ``runs/NAME``; with ``fresh`` always a new one.

    Raises:
        RunRefused: if the folder holds another study or something else, or is in use.
    """
    wanted = out or Path("runs") / plan.study.name
    path = _new_folder(wanted) if fresh else wanted
    path.mkdir(parents=True, exist_ok=True)
    lock_file = path / LOCK_FILE
    is_resumed = lock_file.exists()
    if not is_resumed and (found := _visible(path)):
        raise RunRefused(
            f"{path}: a run is kept in a folder of its own, but this one holds {found[0]} and no "
            f"{LOCK_FILE}; give another folder with --out"
        )
    folder = OpenRun(path, is_resumed=is_resumed)
    try:
        if is_resumed:
            _refuse_other_study(plan, lock_file)
        remove_partial_files(path)
        folder.write_file(LOCK_FILE, lock_text(plan.study).encode())
    except BaseException:
        folder.close()
        raise
    return folder


def _new_folder(wanted: Path) -> Path:
    """``wanted`` if it is free, else ``wanted-2``, ``wanted-3``, ...: made here, so ours alone."""
    names = (f"-{number}" if number > 1 else "" for number in itertools.count(1))
    for path in (wanted.with_name(wanted.name + suffix) for suffix in names):
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("the names never end")


def _visible(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))


def _refuse_other_study(plan: Plan, lock_file: Path) -> None:
    before = dict(_flat(_parse(lock_file.read_text(encoding="utf-8"))))
    now = dict(_flat(_parse(lock_text(plan.study))))
    other = [
        f"{name}: {before.get(name, 'absent')} there, {now.get(name, 'absent')} here"
        for name in dict.fromkeys([*now, *before])
        if before.get(name, "absent") != now.get(name, "absent") and name not in FREE_FIELDS
    ]
    if other:
        more = f"; and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        raise RunRefused(
            f"{lock_file.parent}: a run is resumed only by the same study, but this one differs "
            f"in {'; '.join(other[:_SHOWN])}{more}. Start anew beside it with --fresh, or "
            f"elsewhere with --out DIR"
        )


def _parse(text: str) -> Mapping[str, Any]:
    # Both studies are read from text, so that a number written in two ways is no difference.
    values: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
