"""Studies of runs that are compared: their fields, and which of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from dgray.record.inspect import read_lock
from dgray.reporting.contents import RunContents
from dgray.reporting.selection import OBJECTIVE

ABSENT = "absent"
_NO_RESULT = ("name", "description", "question", "resources.", "search.")  # change no number


@dataclass(frozen=True)
class ComparedRun:
    """Run that is compared with others.

    Attributes:
        label: unique among the runs of a comparison.
        place: folder or URI.
        contents: its rows and study.
        incomplete: why rows of its study are missing; empty if it has all.
    """

    label: str
    place: str
    contents: RunContents
    incomplete: tuple[str, ...] = ()

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Fields of the study by dotted path; the values of an axis are a list."""
        lock = self.contents.source.lock
        return dict(_flat(read_lock(lock.encode()))) if lock else {}

    @property
    def axes(self) -> tuple[str, ...]:
        """Training axes but the objective."""
        return tuple(axis for axis in self.contents.table.axes if axis != OBJECTIVE)

    def values(self, path: str) -> list[Any]:
        """Return the values that trials have of a field, in ascending order if possible."""
        if path in self.axes:
            values = self.contents.table.rows[path].dropna().unique().tolist()
            return sorted(values, key=lambda value: (str(type(value)), value))
        value = self.fields.get(path)
        return [json.dumps(value) if isinstance(value, list | bool) else value]

    @cached_property
    def versions(self) -> dict[str, str]:
        """Commit of dgray and versions of the packages that numbers depend on."""
        sessions = [s for s in self.contents.source.provenance.get("sessions", []) if s]
        last = sessions[-1] if sessions and isinstance(sessions[-1], Mapping) else {}
        versions = last.get("versions") or {}
        shown = {f"version of {name}": versions.get(name) for name in ("dgray", "torch", "optuna")}
        commits = ", ".join(commit[:12] for commit in self.contents.origin.commits)
        return {name: value for name, value in shown.items() if value} | (
            {"commit of dgray": commits} if commits else {}
        )


def differing(runs: Sequence[ComparedRun]) -> pd.DataFrame:
    """Return the fields and versions that differ: a row each, with the value in every run."""
    every = [{**run.fields, **run.versions} for run in runs]
    lines = []
    for path in dict.fromkeys(path for fields in every for path in fields):
        texts = [_text(fields.get(path, ABSENT)) for fields in every]
        if len(set(texts)) > 1 and path != "name":
            lines.append({"field": path, **dict(zip((r.label for r in runs), texts, strict=True))})
    return pd.DataFrame(lines, columns=["field", *(run.label for run in runs)])


def treatments(one: ComparedRun, other: ComparedRun) -> tuple[str, ...]:
    """Return the fields in which no trial of one run agrees with one of the other run."""
    paths = dict.fromkeys([*one.fields, *other.fields, *one.axes, *other.axes])
    return tuple(
        path
        for path in paths
        if path != OBJECTIVE
        and not path.startswith(_NO_RESULT)
        and not path.startswith("evaluate.guidance_")
        and path not in _SETTINGS
        and _are_disjoint(one, other, path)
    )


# Axes of the evaluation, whose values are columns of rows and identify a guided model.
_SETTINGS = (
    "evaluate.sampler",
    "evaluate.num_steps",
    "evaluate.guided_stage",
    "evaluate.metrics",
    "fit.checkpoints",
    "fit.epochs",
    "replicates",
)


def _are_disjoint(one: ComparedRun, other: ComparedRun, path: str) -> bool:
    if path not in one.axes and path not in other.axes:
        return _text(one.fields.get(path)) != _text(other.fields.get(path))
    ours, theirs = (set(map(_text, run.values(path))) for run in (one, other))
    return bool(ours and theirs) and not ours & theirs


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, default=str)
