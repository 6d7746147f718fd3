"""Which dgray wrote a run folder, and with what: rows of different versions are never mixed.

``RUN/run.json`` holds the format of the folder and the versions on which the bits of its rows
depend. Folders of format 0, before that file was, are taken over if their provenance names no
other versions. Knows files and what is installed; not what a study is.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dgray
from dgray.errors import RunRefusedError

FORMAT_FILE = "run.json"
RUN_FORMAT = 1  # raised when a folder of the one before cannot be gone on with as it is
_PROVENANCE = "provenance.json"  # what format 0 has instead
_RESULTS = ("rows", "artifacts", "search")  # folders of what versions matter to


@dataclass(frozen=True)
class RunMark:
    """What ``run.json`` holds: the format, and version by package."""

    format: int
    versions: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """As JSON."""
        content = {"format": self.format, "versions": dict(self.versions)}
        return json.dumps(content, indent=2).encode() + b"\n"


def mark_here(packages: Sequence[str]) -> RunMark:
    """The mark of a folder that is written now.

    ``packages``: those beside dgray on which bits depend.
    """
    versions = {"dgray": dgray.__version__}
    return RunMark(
        RUN_FORMAT, versions | {name: importlib.metadata.version(name) for name in packages}
    )


def refuse_other_format(folder: Path, where: object) -> None:
    """Of a run that is only read: it must be of a format that this dgray knows.

    Raises:
        RunRefusedError: it is of a later one.
    """
    path = folder / FORMAT_FILE
    mark = _parse(path.read_bytes(), where) if path.exists() else None
    if mark is not None and mark.format > RUN_FORMAT:
        by = mark.versions.get("dgray", "a later one")
        raise RunRefusedError(
            f"{where}: a run is read by the dgray that wrote it or a later one, but this one is "
            f"of format {mark.format} (dgray {by}), and dgray {dgray.__version__} knows "
            f"{RUN_FORMAT}; install dgray {by}, or start anew beside it with --fresh"
        )


def refuse_other_versions(folder: Path, here: RunMark, where: object) -> None:
    """Of a run that is gone on with: its rows must be of the versions that are installed.

    Raises:
        RunRefusedError: names the versions, there and here.
    """
    refuse_other_format(folder, where)
    if not any((folder / name).is_dir() for name in _RESULTS):
        return  # nothing that could be mixed
    path = folder / FORMAT_FILE
    if path.exists():
        marks: Sequence[Mapping[str, str]] = [_parse(path.read_bytes(), where).versions]
    else:
        marks = _versions_of_sessions(folder / _PROVENANCE)
    there = {
        name: sorted({mark[name] for mark in marks if name in mark} - {version})
        for name, version in here.versions.items()
    }
    other = {name: versions for name, versions in there.items() if versions}
    if other:
        differs = "; ".join(
            f"{name} {' and '.join(versions)} there, {here.versions[name]} here"
            for name, versions in other.items()
        )
        install = " ".join(f"{name}=={versions[-1]}" for name, versions in other.items())
        raise RunRefusedError(
            f"{where}: rows of different versions are never mixed, because they may round "
            f"differently, but this run was made by {differs}. Install {install}, or start anew "
            f"beside it with --fresh"
        )


def _parse(content: bytes, where: object) -> RunMark:
    try:
        values = json.loads(content)
        return RunMark(int(values["format"]), dict(values["versions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RunRefusedError(
            f"{where}: {FORMAT_FILE} must hold a format and versions, but it does not "
            f"({error!r}); start anew beside it with --fresh"
        ) from error


def _versions_of_sessions(provenance: Path) -> list[Mapping[str, str]]:
    if not provenance.exists():
        return []
    sessions = json.loads(provenance.read_bytes()).get("sessions", [])
    return [session.get("versions", {}) for session in sessions]
