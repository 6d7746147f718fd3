"""Points of the searches of a study as a table, with values on validation and on held-out data.

Read from the events under RUN/search and from the rows of the study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dgray.catalogue import SETTING_COLUMNS
from dgray.errors import RecordError
from dgray.record.run_folder import RunFolder
from dgray.reporting.aggregate import model_keys
from dgray.reporting.estimate import Estimate
from dgray.reporting.legible import encodable, printable
from dgray.reporting.table import StudyTable

FOLDER = "search"
_SETTING = ("epoch", *SETTING_COLUMNS)  # identifies a row of a trial
_MARKS = {  # columns that a search adds to report.parquet
    "search": (pa.string(), "search that requested this trial; null if none did"),
    "point": (pa.int64(), "number of the point in its search"),
    "point_state": (pa.string(), "COMPLETE, PRUNED (stopped early), FAIL or RUNNING"),
}


@dataclass(frozen=True)
class Range:
    """Values that a search tries of a field: ``choices``, or numbers from ``low`` to ``high``."""

    kind: str  # log_uniform, uniform, int, choice
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class SearchPoints:
    """Points of one search.

    Attributes:
        label: the objective and the axes of the search.
        metrics: metric -> minimize or maximize.
        ranges: searched field (dotted path) -> its values; fields relevant to this search only.
        points: one row per point in the order of suggestion: number, state, trial,
            seconds, each field, the selected setting, ``excess`` (by how much constraints are
            violated; 0 if they are met), ``last`` (the first metric at the last checkpoint, on
            validation), and each metric on validation (``validation:METRIC``) and on held-out
            data (the name of the metric), both with ``_se``. Costs are the same on both splits and
            have no error.
    """

    label: str
    metrics: Mapping[str, str]
    ranges: Mapping[str, Range]
    points: pd.DataFrame

    @property
    def fields(self) -> tuple[str, ...]:
        """Searched fields, dotted."""
        return tuple(self.ranges)

    @property
    def done(self) -> pd.DataFrame:
        """Points with values of all metrics."""
        return self.points[self.points["state"] == "COMPLETE"]

    @property
    def first_metric(self) -> str:
        """Metric by which the best point is selected."""
        return next(iter(self.metrics))

    @property
    def is_lower_better(self) -> bool:
        """True if lower values of the first metric are better."""
        return self.metrics[self.first_metric] == "minimize"

    def best(self) -> pd.Series | None:
        """Return the best point on validation, of those that violate constraints least."""
        ordered = sorted((row for _, row in self.done.iterrows()), key=self._order)
        return ordered[0] if ordered else None

    def best_so_far(self) -> pd.DataFrame:
        """Return, for each point from the first finished one on, the best up to it."""
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
        """Return the points that meet the constraints and are dominated by none of these."""
        done = self.done
        done = done[done["excess"] <= 0]
        signs = [1.0 if direction == "minimize" else -1.0 for direction in self.metrics.values()]
        values = done[[f"validation:{name}" for name in self.metrics]].to_numpy(float)
        return done[non_dominated(values * signs)]

    def _order(self, row: pd.Series) -> tuple[float, float, int]:
        value = float(row[f"validation:{self.first_metric}"])
        return float(row["excess"]), value if self.is_lower_better else -value, int(row["number"])


def non_dominated(values: np.ndarray) -> np.ndarray:
    """Return which rows no other row dominates (nowhere worse, somewhere better).

    Args:
        values: shape (points, metrics); lower is better.
    """
    dominated = [bool(((values <= row).all(1) & (values < row).any(1)).any()) for row in values]
    return ~np.array(dominated, dtype=bool)


def value_of(row: pd.Series, name: str) -> Estimate | None:
    """Return the value of a point in a column with its standard error, None if it is missing."""
    if pd.isna(row[name]):
        return None
    error = row[f"{name}_se"]
    return Estimate(float(row[name]), np.nan if pd.isna(error) else float(error))


def read_searches(run: RunFolder, table: StudyTable) -> tuple[SearchPoints, ...]:
    """Read the searches of a run that have requested a point; none for a grid.

    Damaged events are left out, and so is a search whose description is damaged.
    """
    paths = sorted(run.path.glob(f"{FOLDER}/[!.]*/cell.json"))
    searches = (_read_search(run, path.parent.name, table) for path in paths)
    return tuple(search for search in searches if search is not None)


def chosen_trials(table: StudyTable, searches: tuple[SearchPoints, ...]) -> StudyTable:
    """Return the table with only the best trial of each search and the trials of no search.

    The best models of its objectives are the best points of their searches.

    Searched fields are no axes of it: they are what the best point was selected by.
    """
    suggested = {trial for search in searches for trial in search.points["trial"].dropna()}
    points = [point for search in searches if (point := search.best()) is not None]
    best = {str(point["trial"]) for point in points}
    searched = {field for search in searches for field in search.fields}
    # Also trials of points whose events are damaged, which only a search can have requested.
    rows = table.rows
    fields = [field for field in table.axes if field in searched]
    suggested |= set(rows["trial"][rows[fields].notna().any(axis=1)])
    keep = ~rows["trial"].isin(suggested - best)
    clouds, losses = table.clouds, table.losses
    return replace(
        table,
        rows=table.rows[keep].reset_index(drop=True),
        clouds=clouds[~clouds["trial"].isin(suggested - best)] if len(clouds) else clouds,
        losses=losses[~losses["trial"].isin(suggested - best)] if len(losses) else losses,
        axes=tuple(axis for axis in table.axes if axis not in searched),
        selected=frozenset(model_keys(pd.DataFrame(points)) if points else ()),
    )


def points_table(searches: tuple[SearchPoints, ...]) -> pd.DataFrame:
    """Return all points, the content of ``search.parquet``; columns of mixed types hold text."""
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


def mark_points(table: StudyTable, searches: tuple[SearchPoints, ...]) -> StudyTable:
    """Add the search, number and state of the point of each row; a grid stays as it is."""
    if not searches:
        return table
    marks: dict[str, tuple[Any, ...]] = {}
    for search in searches:
        points = search.points.dropna(subset=["trial"])
        for trial, number, state in zip(
            points["trial"], points["number"], points["state"], strict=True
        ):
            marks.setdefault(trial, (search.label, int(number), state))
    columns = pd.DataFrame(
        [marks.get(trial, (None,) * len(_MARKS)) for trial in table.rows["trial"]],
        columns=list(_MARKS),
        index=table.rows.index,
        dtype=object,
    )
    schema = table.schema
    for name, (kind, doc) in _MARKS.items():
        schema = schema.append(pa.field(name, kind, metadata={"doc": doc, "kind": "identity"}))
    return replace(table, rows=pd.concat([table.rows, columns], axis=1), schema=schema)


def choice_text(value: object) -> object:
    """Return a choice, with null, true and false as a study file has them."""
    if isinstance(value, str):
        return encodable(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else value


def _read_search(run: RunFolder, cell: str, table: StudyTable) -> SearchPoints | None:
    """Read a search; None if it has no points or cannot be read."""
    about = _read(run, f"{cell}/cell.json")
    names = [f"{cell}/{path.name}" for path in sorted((run.path / FOLDER / cell).glob("[!.]*"))]
    events = {
        name: _read(run, name) for name in names if name.endswith(("asked.json", "told.json"))
    }
    asked = [event for name, event in events.items() if event and name.endswith("asked.json")]
    told = [event for name, event in events.items() if event and name.endswith("told.json")]
    if about is None or not asked:
        return None
    try:
        by_number = {event["number"]: event for event in told}
        lines = [_point(event, by_number.get(event["number"]), about, table) for event in asked]
        used = {name for event in asked for name in event["values"]}
        ranges = {
            name: _range(domain) for name, domain in about["domains"].items() if name in used
        }
        return SearchPoints(
            printable(about["label"]), about["metrics"], ranges, pd.DataFrame(lines)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # without checksums only
        run.files.leave_out(f"{FOLDER}/{cell}", RecordError(f"damaged: no search ({error!r})"))
        return None


def _read_events(run: RunFolder, cell: str, kind: str) -> list[dict[str, Any]]:
    paths = sorted((run.path / FOLDER / cell).glob(f"[!.]*-{kind}.json"))
    events = (_read(run, f"{cell}/{path.name}") for path in paths)
    return [event for event in events if event is not None]


def _read(run: RunFolder, name: str) -> dict[str, Any] | None:
    try:
        return run.files.read_json(f"{FOLDER}/{name}")
    except RecordError as error:
        run.files.leave_out(f"{FOLDER}/{name}", error)
        return None


def _range(domain: Mapping[str, Any]) -> Range:
    choices = tuple(map(choice_text, domain.get("choices", ())))
    return Range(**{**domain, "choices": choices})


def _point(
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
    line |= {n: choice_text(values[n]) if n in values else None for n in about["domains"]}
    line |= {name: setting.get(name) for name in _SETTING}
    line["excess"] = max([*told.get("excess", {}).values(), 0.0])
    by_epoch = {int(epoch): value for epoch, value in told.get("intermediate", {}).items()}
    line["last"] = by_epoch[max(by_epoch)] if by_epoch else None
    metrics, columns = about["metrics"], about["columns"]
    averages = _averages(table, asked["trial"], setting) if setting else {}
    told_values = told.get("values") or [None] * len(metrics)
    for metric, value in zip(metrics, told_values, strict=True):
        line[f"validation:{metric}"] = value
        line[f"validation:{metric}_se"] = averages.get(f"{columns[metric]}_se")
        has_splits = columns[metric] is not None
        line[metric] = averages.get(metric) if has_splits else value
        line[f"{metric}_se"] = averages.get(f"{metric}_se") if has_splits else None
    return line


def _averages(table: StudyTable, trial: str, setting: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of ``table.aggregated`` of one setting of one trial; empty if it is missing."""
    rows = table.aggregated
    keep = rows["trial"] == trial
    for name in _SETTING:
        value = setting[name]
        keep &= rows[name].isna() if value is None else rows[name] == value
    return rows[keep].iloc[0].to_dict() if keep.any() else {}
