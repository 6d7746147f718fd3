"""The schedule of a plan: a grid's, or searches with Optuna's storage beside the rows."""

from __future__ import annotations

import optuna

from dgray.plan.cells import cells_of
from dgray.plan.plan import Plan
from dgray.record.run_folder import RunFolder
from dgray.search.cell_search import CellSearch
from dgray.search.journal import open_journal
from dgray.search.schedule import (
    GridSchedule,
    Recall,
    Schedule,
    SearchSchedule,
    no_recall,
)

JOURNAL = "optuna.journal"  # of the run folder; optuna-dashboard opens it


def build_schedule(plan: Plan, folder: RunFolder, recall: Recall = no_recall) -> Schedule:
    """What is left to run of a plan; ``recall``: see ``Recall``."""
    fixed = GridSchedule(plan.trials, folder, recall)
    cells = cells_of(plan.study)
    if not cells:
        return fixed
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_journal(folder.path / JOURNAL)
    return SearchSchedule(
        fixed, [CellSearch(plan.study, cell, folder, storage, recall) for cell in cells]
    )
