"""Overview of a run that may be unfinished or damaged: its state, rows, best model and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgray.errors import DgrayError, NoRowsError, NotARunError, RecordError
from dgray.record.inspect import read_lock
from dgray.record.planned import Planned, read_planned
from dgray.record.provenance import read_provenance
from dgray.record.run_files import LOCK_FILE
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import table_of
from dgray.reporting.completeness import gaps
from dgray.reporting.estimate import estimate
from dgray.reporting.presentation import PATH_KL
from dgray.reporting.searches import chosen_trials, read_searches
from dgray.reporting.selection import best, objectives, selection_column, weight_text
from dgray.reporting.table import StudyTable
from dgray.reporting.trial_names import name_of


@dataclass(frozen=True, kw_only=True)
class TrialOverview:
    """Progress of one trial.

    Attributes:
        name: objective and values on the axes.
        id: its id.
        rows_done: complete rows.
        rows_planned: rows that it should have; None if that is unknown.
        reason: why it failed; empty if it did not.
    """

    name: str
    id: str
    rows_done: int
    rows_planned: int | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RunOverview:
    """State and content of a run.

    Attributes:
        place: folder or URI.
        study: name of the study.
        state: complete, incomplete, running, interrupted, killed, crashed, empty (no rows yet),
            damaged, or unreadable.
        rows_done: complete rows.
        rows_planned: rows of the whole study; None if that is unknown, as with searches.
        rows_failed: failed rows.
        points: finished and planned points of each search, such as ``12 of 40``.
        best: best model by the validation split, with its score; empty without one.
        started_at: start of the first session, ISO 8601.
        finished_at: end of the last session; empty while it runs, or if it was killed.
        num_bytes: size of all its files.
        trials: trials of the plan, and those of searches so far.
        problems: reasons why it is incomplete, or cannot be read.
    """

    place: str
    study: str
    state: str
    rows_done: int = 0
    rows_planned: int | None = None
    rows_failed: int = 0
    points: tuple[str, ...] = ()
    best: str = ""
    started_at: str = ""
    finished_at: str = ""
    num_bytes: int = 0
    trials: tuple[TrialOverview, ...] = ()
    problems: tuple[str, ...] = ()


def overview(run: RunFolder, *, place: str, num_bytes: int, is_running: bool) -> RunOverview:
    """Return the overview of a run; what is damaged becomes one of its problems.

    Args:
        run: run folder, or working copy.
        place: folder or URI to show.
        num_bytes: size of its files.
        is_running: whether a driver holds the run.
    """
    sessions = _sessions(run, is_running=is_running)
    facts: dict[str, Any] = {
        "place": place,
        "study": _study(run) or run.path.resolve().name,
        "num_bytes": num_bytes,
        "started_at": str(sessions[0].get("started_at") or "") if sessions else "",
        "finished_at": str(sessions[-1].get("finished_at") or "") if sessions else "",
    }
    outcome = str(sessions[-1].get("outcome") or "") if sessions else ""
    try:
        planned = read_planned(run.files)
    except RecordError:  # one of the gaps
        planned = None
    try:
        table = table_of(run)
    except (NoRowsError, NotARunError):
        return RunOverview(
            **facts,
            state="running" if is_running else "empty",
            rows_planned=_total(planned),
            trials=tuple(_trials(planned, None)),
            problems=("there are no rows yet", *run.left_out),
        )
    except (DgrayError, OSError) as error:
        return RunOverview(**facts, state="unreadable", problems=(str(error),))
    return _of_table(run, table, planned, outcome, facts, is_running=is_running)


def _of_table(
    run: RunFolder,
    table: StudyTable,
    planned: Planned | None,
    outcome: str,
    facts: Mapping[str, Any],
    *,
    is_running: bool,
) -> RunOverview:
    searches = read_searches(run, table)
    problems = gaps(run, table, searches)
    if is_running:
        state = "running"
    elif run.left_out:
        state = "damaged"
    elif problems:
        state = outcome if outcome in ("interrupted", "killed", "crashed") else "incomplete"
    else:
        state = "complete"
    trials = tuple(_trials(planned, table))
    total = None if searches or (planned and planned.num_searches) else _total(planned)
    if total is None and state == "complete":
        total = sum(trial.rows_done for trial in trials)
    per_search = (planned.num_points if planned else None) or 0
    return RunOverview(
        **facts,
        state=state,
        rows_done=sum(trial.rows_done for trial in trials),
        rows_planned=total,
        rows_failed=int((table.rows["status"] == "failed").sum()),
        points=tuple(
            f"{int((s.points['state'] != 'RUNNING').sum())} of {max(per_search, len(s.points))}"
            for s in searches
        ),
        best=_best(chosen_trials(table, searches) if searches else table),
        trials=trials,
        problems=problems,
    )


def _sessions(run: RunFolder, *, is_running: bool) -> list[dict[str, Any]]:
    sessions = read_provenance(run.files, is_running=is_running)["sessions"]
    return [session for session in sessions if isinstance(session, dict)]


def _study(run: RunFolder) -> str:
    try:
        content = run.files.read_record(LOCK_FILE)
        return "" if content is None else str(read_lock(content).get("name") or "")
    except RecordError:
        return ""


def _total(planned: Planned | None) -> int | None:
    if planned is None or planned.num_searches:
        return None
    return sum(len(trial.epochs) * trial.rows for trial in planned.trials)


def _trials(planned: Planned | None, table: StudyTable | None) -> list[TrialOverview]:
    """Return the trials of the plan, then those that only the table has."""
    rows = pd.DataFrame(columns=["trial", "label", "status", "reason"])
    rows = rows if table is None else table.rows
    done = rows[rows["status"] == "ok"].groupby("trial").size()
    failed = rows[rows["status"] == "failed"].drop_duplicates("trial")
    reasons = dict(zip(failed["trial"], failed["reason"], strict=True))
    labels = {trial.id: trial.label for trial in planned.trials} if planned else {}
    counts = {t.id: len(t.epochs) * t.rows for t in planned.trials} if planned else {}
    labels |= dict(zip(rows["trial"], rows["label"], strict=True))
    return [
        TrialOverview(
            name=name_of(label),
            id=trial,
            rows_done=int(done.get(trial, 0)),
            rows_planned=counts.get(trial),
            reason=str(reasons.get(trial) or ""),
        )
        for trial, label in labels.items()
    ]


def _best(table: StudyTable) -> str:
    """Return the best model of all objectives, with the path KL or its change."""
    candidates = [best(table, name) for name in objectives(table.models)]
    models = [model for model in candidates if model is not None]
    column = selection_column(table)
    if column is None or not models:
        return ""
    model = min(models, key=lambda model: float(model[column]))
    weight = None if model["is_calibrated"] else float(model["guidance_weight"])
    setting = f"{name_of(model['label'])}, epoch {model['epoch']}, {weight_text(weight)}"
    weights = model["calibrated_weights"]
    if weight is None and np.ndim(weights) and not np.any(weights):  # no number: not recorded
        setting += " (0 at every noise level: the base)"
    for name in (PATH_KL, f"{PATH_KL}_change"):
        if (value := estimate(model, name)) is not None:
            text = value.signed if name.endswith("_change") else str(value)
            return f"{setting}: {table.title(name)} {text}"
    return setting
