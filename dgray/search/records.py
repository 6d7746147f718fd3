"""What a search asked for and was told, one small file an event: from these it is resumed.

    RUN/search/CELL/cell.json            label, metrics, their columns, constraints, domains
    RUN/search/CELL/000012-asked.json    number, values, trial
    RUN/search/CELL/000012-told.json     state, values, constraints, setting

Knows the run folder; not Optuna.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dgray.config.reading.domains import Domain
from dgray.config.search import OptunaSearch, validation_column
from dgray.record.run_folder import RunFolder

FOLDER = "search"
State = Literal["COMPLETE", "PRUNED", "FAIL"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A point of a search.

    Attributes:
        event: its place among the events of the search.
        number: its place among the points.
        values: of the fields that were searched, by dotted path.
        trial: id; None: the values do not go together.
        seconds: of the search's time so far, all sessions together.
    """

    event: int
    number: int
    values: Mapping[str, Any]
    trial: str | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of a point.

    Attributes:
        event: its place among the events of the search.
        number: of the point.
        state: Optuna's word.
        values: of the metrics, on the validation split; None unless COMPLETE.
        excess: of each constraint, the metric minus its bound.
        setting: epoch, weight and the rest that the values belong to.
        held_out: metric -> value on held-out data at that setting, which no search looks at.
        intermediate: epoch -> value of the first metric.
        reason: of a failure, or why it was stopped.
        of: number of the point with the same trial that was answered first; None: its own rows.
        seconds: as of ``Asked``.
    """

    event: int
    number: int
    state: State
    values: list[float] | None = None
    excess: Mapping[str, float] = field(default_factory=dict)
    setting: Mapping[str, Any] | None = None
    held_out: Mapping[str, float] = field(default_factory=dict)
    intermediate: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    of: int | None = None
    seconds: float = 0.0


def write_about(
    folder: RunFolder, cell_id: str, label: str, search: OptunaSearch, domains: Iterable[Domain]
) -> None:
    """What a reader of the events must know of the search."""
    about = {
        "label": label,
        "metrics": search.metrics,
        "columns": {name: validation_column(name) for name in search.metrics},  # None: no split
        "constraints": search.constraints,
        "domains": {domain.name: _about_domain(domain) for domain in domains},
    }
    text = json.dumps(about, indent=1)
    folder.files.write(f"{FOLDER}/{cell_id}/cell.json", text.encode() + b"\n")


def _about_domain(domain: Domain) -> dict[str, Any]:
    if domain.kind == "choice":
        return {"kind": domain.kind, "choices": list(domain.choices)}
    ends = {"low": domain.low, "high": domain.high}
    return {"kind": domain.kind, **ends, "is_log": domain.is_log}


def write_event(folder: RunFolder, cell_id: str, event: Asked | Told) -> None:
    """Keep it, whole or not at all."""
    kind = "asked" if isinstance(event, Asked) else "told"
    text = json.dumps(asdict(event), indent=1)
    folder.files.write(f"{FOLDER}/{cell_id}/{event.number:06d}-{kind}.json", text.encode() + b"\n")


def read_events(folder: RunFolder, cell_id: str) -> list[Asked | Told]:
    """All events of a search in their order."""
    events: list[Asked | Told] = []
    for path in sorted((folder.path / FOLDER / cell_id).glob("*-*.json")):
        content = json.loads(path.read_text("utf-8"))
        events.append(Asked(**content) if path.stem.endswith("asked") else Told(**content))
    return sorted(events, key=lambda event: event.event)
