"""Rows of a search say which point they belong to and what became of it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pyarrow.parquet as pq

from dgray.plan.cells import cells_of
from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder
from dgray.reporting.search_marks import marked
from dgray.reporting.search_table import read_searches
from dgray.reporting.table import study_table, write_parquet
from dgray.search.cell_search import CellSearch
from tests.search.analytic import finish, load, result


def test_every_row_knows_its_point(tmp_path: Path) -> None:
    stopping = "search.early_stopping={method: median, num_startup_trials: 2}"
    study = load(tmp_path, stopping, "search.num_trials=8")
    run = RunFolder(tmp_path / "run")
    (cell,) = cells_of(study)
    for trial in make_plan(study).trials:
        finish(run, trial)
    search = CellSearch(study, cell, run, optuna.storages.InMemoryStorage())
    states = {}
    while (trial := search.ask()) is not None:
        number = len(states)
        states[trial.id] = (number, "COMPLETE")
        for epoch in trial.epochs:
            run.write_result(result(trial, epoch))
            if search.checkpoint(trial.id, epoch):
                states[trial.id] = (number, "PRUNED")
                break
        search.finished(trial.id, None)
    assert {state for _, state in states.values()} == {"COMPLETE", "PRUNED"}
    table = study_table(run.rows(), run.clouds(), run.losses())
    write_parquet(marked(table, read_searches(run.path, table)), tmp_path / "report.parquet")
    rows = pq.read_table(tmp_path / "report.parquet").to_pandas()
    of_base = rows[rows["objective"] == "base"]
    assert len(of_base) == 1
    assert of_base[["search", "point", "point_state"]].isna().all(axis=None)
    searched = rows[rows["objective"] == "kl"]
    assert set(searched["search"]) == {"kl"}
    for trial_id, group in searched.groupby("trial"):
        assert {*zip(group["point"], group["point_state"], strict=True)} == {states[trial_id]}
        assert set(group["epoch"]) == ({10} if states[trial_id][1] == "PRUNED" else {10, 20})
