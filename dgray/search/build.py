"""The schedule of a plan: a grid's, or searches with Optuna's storage beside the rows."""

from __future__ import annotations

import optuna

from dgray.plan import Plan
from dgray.run_folder import RunFolder
from dgray.search.cell_search import CellSearch
from dgray.search.journal import open_journal
from dgray.search.schedule import GridSchedule, Schedule, SearchSchedule
from dgray.search_points import cells_of

JOURNAL = "optuna.journal"  # of the run folder; optuna-dashboard opens it


def build_schedule(plan: Plan, folder: RunFolder) -> Schedule:
    """What is left to run of a plan."""
    cells = cells_of(plan.study)
    if not cells:
        return GridSchedule(plan.trials, folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_journal(folder.path / JOURNAL)
    return SearchSchedule(
        plan, folder, [CellSearch(plan.study, cell, folder, storage) for cell in cells]
    )
