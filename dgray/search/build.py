"""Builds the schedule of a plan: its grid, and the searches with their journal for dashboards."""

from __future__ import annotations

import optuna

from dgray.files import inside
from dgray.plan.cells import cells_of
from dgray.plan.plan import Plan
from dgray.record.run_folder import RunFolder
from dgray.search.cell_search import CellSearch
from dgray.search.journal import open_journal
from dgray.search.records import Recall, no_recall
from dgray.search.schedule import (
    GridSchedule,
    Schedule,
    SearchSchedule,
)

JOURNAL = "optuna.journal"  # in the run folder; for optuna-dashboard


def build_schedule(plan: Plan, folder: RunFolder, recall: Recall = no_recall) -> Schedule:
    """Return the schedule of the trials that are missing in ``folder``."""
    grid = GridSchedule(plan.trials, folder, recall)
    cells = cells_of(plan.study)
    if not cells:
        return grid
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_journal(inside(folder.path, JOURNAL))
    return SearchSchedule(
        grid, [CellSearch(plan.study, cell, folder, storage, recall) for cell in cells]
    )
