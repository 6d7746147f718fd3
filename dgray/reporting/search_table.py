"""The points of a study's searches as a table, validation and held-out side by side.

Read from the events under RUN/search and from the rows; knows neither Optuna nor the plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dgray.reporting.statement import Statement
from dgray.reporting.summary import Estimate
from dgray.reporting.table import StudyTable
from dgray.reporting.views import number, short

FOLDER = "search"
# What of the setting identifies a row; a search is told of one of them.
_SETTING = ("epoch", "is_calibrated", "guidance_weight", "sampler", "num_steps", "guided_stage")


@dataclass(frozen=True)
class CellPoints:
    """One search.

    Attributes:
        label: the cell in words.
        metrics: metric -> minimize or maximize.
        fields: those that were searched, dotted.
        points: a line a point in the order asked: number, state, trial, seconds, each field, each
            metric on validation (``validation:METRIC``), and on held-out data (the metric's own
            name and ``_se``).
    """

    label: str
    metrics: Mapping[str, str]
    fields: tuple[str, ...]
    points: pd.DataFrame

    @property
    def done(self) -> pd.DataFrame:
        """Points with all their values."""
        return self.points[self.points["state"] == "COMPLETE"]

    @property
    def first_metric(self) -> str:
        """The one that selects."""
        return next(iter(self.metrics))

    @property
    def is_lower_better(self) -> bool:
        """Of the first metric."""
        return self.metrics[self.first_metric] == "minimize"

    def best(self) -> pd.Series | None:
        """The point that is best on validation, of those that meet the constraints if any do."""
        done = self.done
        if done.empty:
            return None
        feasible = done[done["excess"] <= 0]
        chosen = feasible if len(feasible) else done
        values = chosen[f"validation:{self.first_metric}"]
        at = values.idxmin() if self.is_lower_better else values.idxmax()
        return chosen.loc[at]


def read_searches(folder: Path, table: StudyTable) -> tuple[CellPoints, ...]:
    """All searches of a run; none of a grid."""
    return tuple(
        _read_cell(path.parent, table) for path in sorted(folder.glob(f"{FOLDER}/*/cell.json"))
    )


def chosen_trials(table: StudyTable, searches: tuple[CellPoints, ...]) -> StudyTable:
    """The table with the best point of each search alone, and all that no search asked for.

    Without the searched fields as axes: they are what the point was chosen by.
    """
    asked = {trial for search in searches for trial in search.points["trial"].dropna()}
    best = {str(row["trial"]) for search in searches if (row := search.best()) is not None}
    searched = {field for search in searches for field in search.fields}
    keep = ~table.rows["trial"].isin(asked - best)
    clouds, losses = table.clouds, table.losses
    return replace(
        table,
        rows=table.rows[keep].reset_index(drop=True),
        clouds=clouds[~clouds["trial"].isin(asked - best)] if len(clouds) else clouds,
        losses=losses[~losses["trial"].isin(asked - best)] if len(losses) else losses,
        axes=tuple(axis for axis in table.axes if axis not in searched),
    )


def search_statements(searches: tuple[CellPoints, ...]) -> list[Statement]:
    """What each search found, on both splits."""
    return [Statement("Searches", _sentence(search)) for search in searches]


def _sentence(search: CellPoints) -> str:
    counts = search.points["state"].value_counts()
    asked = f"{len(search.points)} points"
    other = [f"{counts[s]} {w}" for s, w in _STATES.items() if s in counts]
    best = search.best()
    if best is None:
        return f"The search {search.label} has no finished point yet ({asked})."
    metric = search.first_metric
    values = [
        f"{short(name)} {number(best[name])}" for name in search.fields if not pd.isna(best[name])
    ]
    held_out = ""
    if not pd.isna(best.get(metric)):
        told = Estimate(float(best[metric]), float(best.get(f"{metric}_se", float("nan"))))
        held_out = f"; on held-out data it is {told}, free of the choice's flattery"
    return (
        f"The search {search.label} ({', '.join([asked, *other])}) chose {', '.join(values)} at "
        f"{_where(best)}: {metric} {best[f'validation:{metric}']:.4g} on validation{held_out}."
    )


_STATES = {"PRUNED": "stopped early", "FAIL": "failed"}


def _where(best: pd.Series) -> str:
    weight = "calibrated" if best["is_calibrated"] else f"w = {best['guidance_weight']:g}"
    return f"epoch {best['epoch']:g}, {weight}"


def _read_cell(folder: Path, table: StudyTable) -> CellPoints:
    about = json.loads((folder / "cell.json").read_text("utf-8"))
    asked = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*-asked.json"))]
    told = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*-told.json"))]
    by_number = {event["number"]: event for event in told}
    metrics, fields = about["metrics"], tuple(about["fields"])
    lines = [
        _line(event, by_number.get(event["number"]), metrics, fields, table) for event in asked
    ]
    points = pd.DataFrame(lines)
    active = tuple(name for name in fields if len(points) and points[name].notna().any())
    return CellPoints(about["label"], metrics, active, points)


def _line(
    asked: dict[str, Any],
    told: dict[str, Any] | None,
    metrics: Mapping[str, str],
    fields: tuple[str, ...],
    table: StudyTable,
) -> dict[str, Any]:
    told = told or {"state": "RUNNING"}
    setting = told.get("setting") or {}
    line = {"number": asked["number"], "trial": asked["trial"], "state": told["state"]}
    line |= {"seconds": told.get("seconds"), "reason": told.get("reason"), "of": told.get("of")}
    line |= {name: asked["values"].get(name) for name in fields}
    line |= {name: setting.get(name) for name in _SETTING}
    values = told.get("values") or [None] * len(metrics)
    line |= {f"validation:{m}": v for m, v in zip(metrics, values, strict=True)}
    line["excess"] = max([*told.get("excess", {}).values(), 0.0])
    cell = _cell_of(table, asked["trial"], setting) if setting else None
    for metric in metrics:
        for name in (metric, f"{metric}_se"):
            line[name] = None if cell is None or name not in cell else cell[name]
    return line


def _cell_of(table: StudyTable, trial: str, setting: Mapping[str, Any]) -> pd.Series | None:
    """The averaged row of one setting of one trial."""
    cells = table.aggregated
    keep = cells["trial"] == trial
    for name in _SETTING:
        value = setting[name]
        keep &= cells[name].isna() if value is None else cells[name] == value
    found = cells[keep]
    return found.iloc[0] if len(found) else None
