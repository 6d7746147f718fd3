"""Format of a run folder and the versions that wrote it; rows of two versions are never mixed.

``RUN/run.json`` holds the format of the folder and the versions of the packages that affect the
bits of its rows. A run keeps the format in which it was started. In format 2 every record has a
seal; records of formats 0 and 1 that were written before have none. Folders of format 0 have no
such file; they are resumed if the versions in their provenance are the installed ones.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import dgray
from dgray.errors import RecordError, RunRefusedError
from dgray.record.run_files import FORMAT_FILE, PROVENANCE_FILE, SEALED_FORMAT, RunFiles
from dgray.record.seal import identity_in, sealed_json

RUN_FORMAT = SEALED_FORMAT  # incremented when earlier versions of dgray cannot read a run
_RESULTS = ("rows", "artifacts", "search")  # folders whose content depends on the versions


@dataclass(frozen=True)
class RunMark:
    """Content of ``run.json``: the format, and the version of each package."""

    format: int
    versions: Mapping[str, str]

    def write(self, files: RunFiles) -> None:
        """Write ``run.json``."""
        files.write_record(FORMAT_FILE, partial(sealed_json, asdict(self)))


def mark_here(packages: Sequence[str]) -> RunMark:
    """Return the mark of the installed versions.

    Args:
        packages: packages besides dgray that affect the bits of rows.
    """
    versions = {"dgray": dgray.__version__}
    return RunMark(
        RUN_FORMAT, versions | {name: importlib.metadata.version(name) for name in packages}
    )


def has_results(files: RunFiles) -> bool:
    """Return whether anything was computed that depends on the versions."""
    return any((files.path / name).is_dir() for name in _RESULTS)


def refuse_other_format(files: RunFiles, where: object) -> None:
    """Check the format of a run before it is read; a damaged ``run.json`` is no reason to refuse.

    Raises:
        RunRefusedError: a later version of dgray wrote it in a format unknown to this one.
    """
    try:
        content = files.read(FORMAT_FILE)
        if content is None:
            return
        identity_in(content, FORMAT_FILE)  # a later format may have no seals
        mark = _parse(json.loads(content))
    except ValueError:
        return
    if mark.format > RUN_FORMAT:
        writer = mark.versions["dgray"]
        raise RunRefusedError(
            f"{where}: a run can be read by the version of dgray that wrote it and by later ones, "
            f"but this run has format {mark.format} (dgray {writer}), and dgray "
            f"{dgray.__version__} reads formats up to {RUN_FORMAT}; install dgray {writer}, or "
            "start a new run beside it with --fresh"
        )


def read_mark(files: RunFiles) -> RunMark | None:
    """Return the content of ``run.json``, or None if it does not exist.

    Raises:
        RecordError: it is damaged.
    """
    values = files.read_json(FORMAT_FILE)
    return None if values is None else _parse(values)


def refuse_other_versions(files: RunFiles, installed: RunMark, where: object) -> None:
    """Check the versions of a run before it is resumed; if need be, those in its provenance.

    Raises:
        RunRefusedError: the rows were written by other versions, or by unknown ones.
    """
    if not has_results(files):
        return
    try:
        mark = read_mark(files)
        marks = _versions_of_sessions(files) if mark is None else [mark.versions]
    except RecordError:
        marks = _versions_of_sessions(files)
    if not any("dgray" in mark for mark in marks):
        raise RunRefusedError(
            f"{where}: rows of different versions are never mixed, but those of this run are "
            f"unknown, because neither {FORMAT_FILE} nor {PROVENANCE_FILE} is intact; start a new "
            "run beside it with --fresh"
        )
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


def _parse(values: Any) -> RunMark:
    try:
        versions = dict(values["versions"])
        if all(isinstance(version, str) for version in [versions["dgray"], *versions.values()]):
            return RunMark(int(values["format"]), versions)
    except (ValueError, KeyError, TypeError, OverflowError):
        pass
    raise RecordError("damaged: it must hold a format and versions, that of dgray among them")


def _versions_of_sessions(files: RunFiles) -> list[Mapping[str, str]]:
    try:
        sessions = (files.read_json(PROVENANCE_FILE) or {}).get("sessions")
    except RecordError:
        return []
    versions = [s.get("versions") for s in _objects(sessions)]
    return [
        {name: version for name, version in mark.items() if isinstance(version, str)}
        for mark in _objects(versions)
    ]


def _objects(values: object) -> list[dict[str, Any]]:
    """Return the JSON objects among the entries of a list; nothing of another value."""
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []
