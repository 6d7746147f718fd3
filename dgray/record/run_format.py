"""Format of a run folder and the versions that wrote it; rows of two versions are never mixed.

``RUN/run.json`` holds the format of the folder and the versions of the packages that affect the
bits of its rows. Folders of format 0 have no such file; they are resumed if the versions in their
provenance are the installed ones.
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
RUN_FORMAT = 1  # incremented when folders of the previous format can no longer be resumed
_PROVENANCE = "provenance.json"  # holds the versions in format 0
_RESULTS = ("rows", "artifacts", "search")  # folders whose content depends on the versions


@dataclass(frozen=True)
class RunMark:
    """Content of ``run.json``: the format, and the version of each package."""

    format: int
    versions: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """Return the content of ``run.json``."""
        content = {"format": self.format, "versions": dict(self.versions)}
        return json.dumps(content, indent=2).encode() + b"\n"


def mark_here(packages: Sequence[str]) -> RunMark:
    """Return the mark of the installed versions.

    Args:
        packages: packages besides dgray that affect the bits of rows.
    """
    versions = {"dgray": dgray.__version__}
    return RunMark(
        RUN_FORMAT, versions | {name: importlib.metadata.version(name) for name in packages}
    )


def refuse_other_format(folder: Path, where: object) -> None:
    """Check the format of a run before it is read.

    Raises:
        RunRefusedError: a later version of dgray wrote it in a format unknown to this one.
    """
    path = folder / FORMAT_FILE
    mark = _parse(path.read_bytes(), where) if path.exists() else None
    if mark is not None and mark.format > RUN_FORMAT:
        writer = mark.versions.get("dgray", "a later version")
        raise RunRefusedError(
            f"{where}: a run can be read by the version of dgray that wrote it and by later ones, "
            f"but this run has format {mark.format} (dgray {writer}), and dgray "
            f"{dgray.__version__} reads formats up to {RUN_FORMAT}; install dgray {writer}, or "
            "start a new run beside it with --fresh"
        )


def refuse_other_versions(folder: Path, installed: RunMark, where: object) -> None:
    """Check the format and versions of a run before it is resumed.

    Raises:
        RunRefusedError: the rows were written by other versions; the message names them.
    """
    refuse_other_format(folder, where)
    if not any((folder / name).is_dir() for name in _RESULTS):
        return  # nothing was computed yet
    path = folder / FORMAT_FILE
    if path.exists():
        marks: Sequence[Mapping[str, str]] = [_parse(path.read_bytes(), where).versions]
    else:
        marks = _versions_of_sessions(folder / _PROVENANCE)
    there = {
        name: sorted({mark[name] for mark in marks if name in mark} - {version})
        for name, version in installed.versions.items()
    }
    different = {name: versions for name, versions in there.items() if versions}
    if different:
        differences = "; ".join(
            f"{name} {' and '.join(versions)} there, {installed.versions[name]} here"
            for name, versions in different.items()
        )
        install = " ".join(f"{name}=={versions[-1]}" for name, versions in different.items())
        raise RunRefusedError(
            f"{where}: rows of different versions are never mixed, because they may round "
            f"differently, but this run was written by {differences}. Install {install}, or start "
            "a new run beside it with --fresh"
        )


def _parse(content: bytes, where: object) -> RunMark:
    try:
        values = json.loads(content)
        return RunMark(int(values["format"]), dict(values["versions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RunRefusedError(
            f"{where}: {FORMAT_FILE} must hold a format and versions, but it does not "
            f"({error!r}); start a new run beside it with --fresh"
        ) from error


def _versions_of_sessions(provenance: Path) -> list[Mapping[str, str]]:
    if not provenance.exists():
        return []
    sessions = json.loads(provenance.read_bytes()).get("sessions", [])
    return [session.get("versions", {}) for session in sessions]
