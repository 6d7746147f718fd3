"""The points of a study's searches as a table, validation and held-out side by side.

Read from the events under RUN/search and from the rows; knows neither Optuna nor the plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgray.plan.plan import SETTING_COLUMNS
from dgray.reporting.table import StudyTable
from dgray.reporting.text.summary import Estimate

FOLDER = "search"
_SETTING = ("epoch", *SETTING_COLUMNS)  # what of a trial identifies a row


@dataclass(frozen=True)
class Range:
    """What a searched field may be: ``choices``, or numbers from ``low`` to ``high``."""

    kind: str  # log_uniform, uniform, int, choice
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class CellPoints:
    """One search.

    Attributes:
        label: the cell in words.
        metrics: metric -> minimize or maximize.
        ranges: field, dotted -> what it may be; of those that matter to the cell.
        points: a line a point in the order asked: number, state, trial, seconds, each field, the
            setting that counts, ``excess`` (how far the constraints are broken; 0: met), ``last``
            (first metric at the last checkpoint on validation), and each metric on validation
            (``validation:METRIC``) and on held-out data (the metric's own name), both with
            ``_se``. Costs are the same on both splits and have no error.
    """

    label: str
    metrics: Mapping[str, str]
    ranges: Mapping[str, Range]
    points: pd.DataFrame

    @property
    def fields(self) -> tuple[str, ...]:
        """Those that were searched, dotted."""
        return tuple(self.ranges)

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
        """The best point on validation; of those that break constraints the least, if all do."""
        ordered = sorted((row for _, row in self.done.iterrows()), key=self._order)
        return ordered[0] if ordered else None

    def best_so_far(self) -> pd.DataFrame:
        """A line a point from the first finished one on: the best until then, under its number."""
        lines: list[pd.Series] = []
        best: pd.Series | None = None
        for _, row in self.points.iterrows():
            is_done = row["state"] == "COMPLETE"
            if is_done and (best is None or self._order(row) < self._order(best)):
                best = row
            if best is not None:
                lines.append(pd.Series({**best.to_dict(), "number": row["number"]}))
        return pd.DataFrame(lines)

    def front(self) -> pd.DataFrame:
        """The finished points that meet the constraints and that no other of them dominates."""
        done = self.done
        done = done[done["excess"] <= 0]
        signs = [1.0 if direction == "minimize" else -1.0 for direction in self.metrics.values()]
        values = done[[f"validation:{name}" for name in self.metrics]].to_numpy(float)
        return done[non_dominated(values * signs)]

    def _order(self, row: pd.Series) -> tuple[float, float, int]:
        value = float(row[f"validation:{self.first_metric}"])
        return float(row["excess"]), value if self.is_lower_better else -value, int(row["number"])


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Which rows no other row dominates: is nowhere worse and somewhere better (less is better).

    Args:
        values: shape (points, metrics).
    """
    beaten = [bool(((values <= row).all(1) & (values < row).any(1)).any()) for row in values]
    return ~np.array(beaten, dtype=bool)


def value_of(row: pd.Series, name: str) -> Estimate | None:
    """A column of the points with its error."""
    if pd.isna(row[name]):
        return None
    error = row[f"{name}_se"]
    return Estimate(float(row[name]), np.nan if pd.isna(error) else float(error))


def read_searches(folder: Path, table: StudyTable) -> tuple[CellPoints, ...]:
    """All searches of a run that have asked for a point; none of a grid."""
    cells = (path.parent for path in sorted(folder.glob(f"{FOLDER}/*/cell.json")))
    return tuple(_read_cell(cell, table) for cell in cells if any(cell.glob("*-asked.json")))


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


def points_table(searches: tuple[CellPoints, ...]) -> pd.DataFrame:
    """All points, as ``search.parquet`` has them: a column of numbers and words is of words."""
    parts = [
        s.points.assign(search=s.label, on_front=s.points["number"].isin(s.front()["number"]))
        for s in searches
    ]
    points = pd.concat(parts, ignore_index=True)
    for name in points:
        kinds = {isinstance(value, str) for value in points[name].dropna()}
        if len(kinds) > 1:
            points[name] = [v if pd.isna(v) else str(v) for v in points[name]]
    return points


def in_words(value: object) -> object:
    """Of a choice: null, true and false as a study file has them, anything else as it is."""
    return json.dumps(value) if value is None or isinstance(value, bool) else value


def _read_cell(folder: Path, table: StudyTable) -> CellPoints:
    about = json.loads((folder / "cell.json").read_text("utf-8"))
    asked = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*-asked.json"))]
    told = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*-told.json"))]
    by_number = {event["number"]: event for event in told}
    lines = [_line(event, by_number.get(event["number"]), about, table) for event in asked]
    used = {name for event in asked for name in event["values"]}
    ranges = {name: _range(given) for name, given in about["domains"].items() if name in used}
    return CellPoints(about["label"], about["metrics"], ranges, pd.DataFrame(lines))


def _range(given: Mapping[str, Any]) -> Range:
    choices = tuple(map(in_words, given.get("choices", ())))
    return Range(**{**given, "choices": choices})


def _line(
    asked: dict[str, Any],
    told: dict[str, Any] | None,
    about: Mapping[str, Any],
    table: StudyTable,
) -> dict[str, Any]:
    told = told or {"state": "RUNNING"}
    setting = told.get("setting") or {}
    values = asked["values"]
    line = {"number": asked["number"], "trial": asked["trial"], "state": told["state"]}
    line |= {"seconds": told.get("seconds"), "reason": told.get("reason"), "of": told.get("of")}
    line |= {n: in_words(values[n]) if n in values else None for n in about["domains"]}
    line |= {name: setting.get(name) for name in _SETTING}
    line["excess"] = max([*told.get("excess", {}).values(), 0.0])
    by_epoch = {int(epoch): value for epoch, value in told.get("intermediate", {}).items()}
    line["last"] = by_epoch[max(by_epoch)] if by_epoch else None
    metrics, columns = about["metrics"], about["columns"]
    cell = _cell_of(table, asked["trial"], setting) if setting else None
    found: Mapping[str, Any] = {} if cell is None else cell
    told_values = told.get("values") or [None] * len(metrics)
    for metric, value in zip(metrics, told_values, strict=True):
        line[f"validation:{metric}"] = value
        line[f"validation:{metric}_se"] = found.get(f"{columns[metric]}_se")
        has_splits = columns[metric] is not None
        line[metric] = found.get(metric) if has_splits else value
        line[f"{metric}_se"] = found.get(f"{metric}_se") if has_splits else None
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
