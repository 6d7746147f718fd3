"""Points of searches: read from a run, ordered, and stated with both splits."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dgray.plan.cells import cells_of
from dgray.plan.plan import make_plan
from dgray.record.run_folder import RunFolder
from dgray.reporting.build import read_table
from dgray.reporting.figures.search_fields import parallel_coordinates
from dgray.reporting.page import Source, report_page
from dgray.reporting.searches import (
    Range,
    SearchPoints,
    choice_text,
    chosen_trials,
    mark_points,
    non_dominated,
    points_table,
    read_searches,
)
from dgray.reporting.table import StudyTable, study_table, write_parquet
from dgray.reporting.text.finding import find
from dgray.reporting.text.searches import search_lines, search_statements
from dgray.search.cell_search import CellSearch
from tests.reporting.synthetic_search import KL, KL_AND_TIME, RATE, WIDTH, point, search_of
from tests.search.analytic import finish, load, result, run_search

OVERRIDES = (
    "fit.objective=[cross_entropy, kl]",
    "search.num_trials=12",
    "search.early_stopping={method: median, num_startup_trials: 4}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyTable, tuple[SearchPoints, ...]]:
    """A study of two searches with analytic metrics; read only."""
    folder = tmp_path_factory.mktemp("searched")
    run_search(make_plan(load(folder, *OVERRIDES)), RunFolder(folder / "run"))
    table = read_table(folder / "run")
    return table, read_searches(RunFolder(folder / "run"), table)


def test_every_point_has_its_fields_and_both_splits_with_errors(
    run: tuple[StudyTable, tuple[SearchPoints, ...]],
) -> None:
    _, searches = run
    assert [search.label for search in searches] == ["cross_entropy", "kl"]
    for search in searches:
        assert set(search.fields) == {WIDTH, RATE, "discriminator.depth"}
        assert list(search.points["number"]) == list(range(12))
        assert set(search.points["state"]) == {"COMPLETE", "PRUNED"}
        for _, row in search.done.iterrows():
            rate, width = math.log10(row[RATE]) + 3, math.log(row[WIDTH] / 20)
            exact = rate**2 + 0.1 * width**2 + 1 / 20
            assert row["validation:path_kl_change"] == pytest.approx(exact + 0.005)
            assert row["validation:path_kl_change_se"] == pytest.approx(0.005)
            assert row["path_kl_change"] == pytest.approx(exact + 0.05)
            assert row["path_kl_change_se"] == pytest.approx(0.01)
            assert (row["epoch"], row["guidance_weight"]) == (20, 1.0)
        stopped = search.points[search.points["state"] == "PRUNED"]
        assert stopped["last"].notna().all()
        assert stopped["path_kl_change"].isna().all()


def test_range_is_that_of_the_study_not_that_of_the_points(
    run: tuple[StudyTable, tuple[SearchPoints, ...]],
) -> None:
    _, (search, _) = run
    assert search.ranges[RATE] == Range("log_uniform", 1e-4, 1e-2, is_log=True)
    assert search.ranges[WIDTH] == Range("int", 8, 64, is_log=True)
    assert search.points[WIDTH].min() > 8 or search.points[WIDTH].max() < 64


def test_other_figures_show_only_the_selected_points(
    run: tuple[StudyTable, tuple[SearchPoints, ...]],
) -> None:
    table, searches = run
    chosen = chosen_trials(table, searches)
    best = {str(row["trial"]) for s in searches if (row := s.best()) is not None}
    suggested = {trial for search in searches for trial in search.points["trial"]}
    assert len(best) == 2
    assert set(chosen.rows["trial"]) == best | (set(table.rows["trial"]) - suggested)
    assert RATE in table.axes
    assert RATE not in chosen.axes


def test_table_and_statement_give_both_splits_with_their_errors(
    run: tuple[StudyTable, tuple[SearchPoints, ...]],
) -> None:
    _, searches = run
    for search, line, statement in zip(
        searches, search_lines(searches), search_statements(searches), strict=False
    ):
        best = search.done.loc[search.done["validation:path_kl_change"].idxmin()]
        validation, held_out = line.validation, line.held_out
        assert validation is not None
        assert held_out is not None
        assert validation.value == best["validation:path_kl_change"]
        assert validation.error == pytest.approx(0.005)
        assert held_out.value == best["path_kl_change"]
        assert held_out.error == pytest.approx(0.01)
        assert f"path_kl_change {validation} on validation" in statement.text
        assert f"{held_out} on held-out data" in statement.text
        assert "12 points, " in statement.text
        assert "stopped early" in statement.text
    assert search_statements(()) == []


def test_page_has_a_section_for_searches_if_there_are_any(
    run: tuple[StudyTable, tuple[SearchPoints, ...]],
) -> None:
    table, searches = run
    source = Source(name="s", description="", lock="", provenance={})
    lines = search_lines(searches)
    page = report_page(table, find(table), [], source, searches=lines)
    _, _, section = page.partition('<section id="searches">')
    section = section.partition("</section>")[0]
    for line in lines:
        for text in (line.search, line.points, line.selected, line.validation, line.held_out):
            assert str(text) in section
    assert 'href="#searches"' in page
    assert "#searches" not in report_page(table, find(table), [], source)


def test_field_irrelevant_to_a_point_has_no_value(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "fit.objective={choice: [kl, mixed]}",
        "fit.gamma={uniform: [0, 2]}",
        "search.num_trials=12",
    )
    run_search(make_plan(study), RunFolder(tmp_path / "run"))
    (search,) = read_searches(RunFolder(tmp_path / "run"), read_table(tmp_path / "run"))
    is_mixed = search.points["fit.objective"] == "mixed"
    assert 0 < is_mixed.sum() < 12
    assert (search.points["fit.gamma"].notna() == is_mixed).all()


def test_choice_of_numbers_and_text_can_be_stored_and_drawn(tmp_path: Path) -> None:
    study = load(
        tmp_path,
        "fit.dropout={choice: [0, 0.5]}",
        "evaluate.guidance_weight={choice: [1, calibrated]}",
    )
    run_search(make_plan(study), RunFolder(tmp_path / "run"))
    searches = read_searches(RunFolder(tmp_path / "run"), read_table(tmp_path / "run"))
    points_table(searches).to_parquet(tmp_path / "search.parquet")
    stored = pd.read_parquet(tmp_path / "search.parquet")
    assert set(stored["evaluate.guidance_weight"]) == {"1", "calibrated"}
    assert set(stored["fit.dropout"]) == {0, 0.5}
    assert parallel_coordinates(searches) is not None


def test_null_and_booleans_are_text_values() -> None:
    texts = [choice_text(value) for value in (None, True, False, 1, 0, 0.5, "kl")]
    assert texts == ["null", "true", "false", 1, 0, 0.5, "kl"]


def test_best_point_meets_the_constraints_or_violates_them_least() -> None:
    broken = [point(0, 0.1, excess=5.0), point(1, 0.9, excess=1.0), point(2, 0.2, excess=1.0)]
    best = search_of(broken).best()
    assert best is not None
    assert best["number"] == 2
    assert "violates the constraints" in search_statements((search_of(broken),))[0].text
    best = search_of([*broken, point(3, 7.0), point(4, 6.0)]).best()
    assert best is not None
    assert best["number"] == 4
    largest = {"path_kl_change": "maximize"}
    best = search_of([point(0, 0.1), point(1, 0.4)], metrics=largest).best()
    assert best is not None
    assert best["number"] == 1


def test_best_so_far_continues_over_points_without_values() -> None:
    search = search_of(
        [
            point(0, state="FAIL"),
            point(1, 0.5, excess=1.0),
            point(2, 0.9),
            point(3, 0.4, state="PRUNED"),
            point(4, 0.3, excess=2.0),
            point(5, 0.8),
        ]
    )
    best = search.best_so_far()
    assert list(best["number"]) == [1, 2, 3, 4, 5]
    assert list(best["validation:path_kl_change"]) == [0.5, 0.9, 0.9, 0.9, 0.8]
    assert search_of([point(0, state="FAIL")]).best() is None
    assert search_of([point(0, state="FAIL")]).best_so_far().empty


DIRECTIONS = [
    names
    for count in (2, 3)
    for names in itertools.product(("minimize", "maximize"), repeat=count)
]


@pytest.mark.parametrize("directions", DIRECTIONS, ids="-".join)
def test_front_equals_that_of_optuna(directions: tuple[str, ...]) -> None:
    rng = np.random.default_rng(len(directions))
    metrics = {f"metric_{index}": direction for index, direction in enumerate(directions)}
    study = optuna.create_study(directions=list(directions))
    points = []
    for number in range(60):
        values = [float(v) for v in rng.integers(0, 7, len(directions))]  # with ties
        excess = float(max(rng.integers(-3, 2), 0))
        points.append(point(number, *values, metrics=metrics, excess=excess))
        trial = study.ask()
        trial.set_constraint("c", excess)
        study.tell(trial, values)
    front = search_of(points, metrics=metrics).front()
    assert set(front["number"]) == {trial.number for trial in study.best_trials}
    assert 0 < len(front) < 60


def test_equal_points_do_not_dominate_each_other() -> None:
    values = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    assert list(non_dominated(values)) == [True, True, True, False]
    assert list(non_dominated(np.empty((0, 2)))) == []


def test_statement_on_several_metrics_counts_the_front() -> None:
    points = [point(i, i / 10, 5.0 - i % 3, metrics=KL_AND_TIME) for i in range(6)]
    search = search_of(points, metrics=KL_AND_TIME)
    (statement, _) = search_statements((search,))
    assert "On validation, 3 of 6 finished points are on the Pareto front" in statement.text
    lines = search_lines((search,))
    assert [line.metric for line in lines] == list(KL_AND_TIME)
    assert [str(line.held_out) for line in lines] == ["0.020 ± 0.010", "5"]


def test_search_without_a_finished_point_is_stated() -> None:
    search = search_of([point(0, state="RUNNING"), point(1, state="FAIL")], metrics=KL)
    (statement, _) = search_statements((search,))
    assert statement.text == (
        "The search kl has no finished point yet (2 points, 1 failed, 1 not finished)."
    )
    assert search_lines((search,)) == []


def test_rows_name_their_search_point_and_its_state(tmp_path: Path) -> None:
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
            if search.report_checkpoint(trial.id, epoch):
                states[trial.id] = (number, "PRUNED")
                break
        search.report_end(trial.id, None)
    assert {state for _, state in states.values()} == {"COMPLETE", "PRUNED"}
    table = study_table(run.row_table(), run.clouds(), run.losses())
    write_parquet(mark_points(table, read_searches(run, table)), tmp_path / "report.parquet")
    rows = pq.read_table(tmp_path / "report.parquet").to_pandas()
    of_base = rows[rows["objective"] == "base"]
    assert len(of_base) == 1
    assert of_base[["search", "point", "point_state"]].isna().all(axis=None)
    searched = rows[rows["objective"] == "kl"]
    assert set(searched["search"]) == {"kl"}
    for trial_id, group in searched.groupby("trial"):
        assert {*zip(group["point"], group["point_state"], strict=True)} == {states[trial_id]}
        assert set(group["epoch"]) == ({10} if states[trial_id][1] == "PRUNED" else {10, 20})
