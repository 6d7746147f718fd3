"""Pages of every kind of run: unfinished, diverged, without a base, of many axes, of any text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dgray.reporting.build import read_table
from dgray.reporting.selection import trained
from dgray.reporting.table import StudyTable
from tests.reporting.devtools import Tab
from tests.reporting.pages import (
    assert_clean,
    cells,
    choose_all,
    lines,
    page_of,
)
from tests.reporting.synthetic_axes import random_table
from tests.reporting.test_hostile_text import IN_ROWS, run_of

pytestmark = pytest.mark.browser


def test_any_text_of_a_user_is_shown_and_none_is_executed(tab: Tab, tmp_path: Path) -> None:
    table = read_table(run_of(tmp_path / "run", IN_ROWS))
    file = page_of(table, tmp_path / "report.html")
    tab.open(file)
    assert len(lines(tab)) == len(table.aggregated)
    assert tab.run("document.querySelectorAll('script').length") == 3
    choose_all(tab, "s.options.length - 1")
    assert tab.run("document.documentElement.scrollWidth") <= 1280
    assert_clean(tab, file)


def test_trials_with_other_epochs_are_shown_at_their_last_checkpoint(
    tab: Tab, table: StudyTable, tmp_path: Path
) -> None:
    rows = table.rows.copy()
    last = rows["epoch"].max()
    rows.loc[rows["objective"] == "kl", "epoch"] -= 1  # as with a budget
    file = page_of(replace(table, rows=rows), tmp_path / "report.html")
    tab.open(file)
    trial = rows.loc[rows["objective"] == "kl", "trial"].iloc[0]
    number = tab.run(f"data.trials.findIndex((t) => t.id === {trial!r})")
    tab.run(f"state.trial = {number}; state.epoch = {last}; update()")
    assert f"epoch {last - 1}" in tab.run("document.querySelector('#cell-title').textContent")
    assert_clean(tab, file)


def one_replicate(table: StudyTable) -> StudyTable:
    return replace(table, rows=table.rows[table.rows["replicate"] == 0])


def one_trial(table: StudyTable) -> StudyTable:
    kept = trained(table.models)["trial"].iloc[0]
    return replace(table, rows=table.rows[table.rows["trial"].isin([kept])])


def without_base(table: StudyTable) -> StudyTable:
    return replace(table, rows=table.rows[table.rows["objective"] != "base"])


def unfinished(table: StudyTable) -> StudyTable:
    rows = table.rows.iloc[: len(table.rows) // 2].copy()
    rows.loc[rows.index[-5:], ["status", "reason"]] = ["failed", "loss is NaN"]
    return replace(table, rows=rows)


def diverged(table: StudyTable) -> StudyTable:
    rows = table.rows.copy()
    rows.loc[rows["epoch"] == 400, ["path_kl", "path_kl_change", "kl"]] = [np.inf, np.inf, np.nan]
    return replace(table, rows=rows)


def only_base(table: StudyTable) -> StudyTable:
    return replace(table, rows=table.rows[table.rows["objective"] == "base"])


@pytest.fixture(scope="module")
def small_table(small_run: Path) -> StudyTable:
    return read_table(small_run)


@pytest.mark.parametrize(
    "change",
    [
        one_trial,
        unfinished,
        diverged,
        pytest.param(one_replicate, marks=pytest.mark.long),
        pytest.param(without_base, marks=pytest.mark.long),
        pytest.param(only_base, marks=pytest.mark.long),
    ],
)
def test_every_kind_of_run_has_a_sound_page(
    tab: Tab, small_table: StudyTable, tmp_path: Path, change: Callable[[StudyTable], StudyTable]
) -> None:
    part = change(small_table)
    file = page_of(part, tmp_path / "report.html")
    tab.open(file)
    assert min(len(part.aggregated), 300) == len(lines(tab))
    assert tab.run("document.body.innerText.includes('undefined')") is False
    assert tab.run("document.body.innerText.includes('NaN')") is (change is unfinished)
    assert_clean(tab, file)


def test_controls_without_training_and_images(
    tab: Tab, counterexample_run: Path, tmp_path: Path
) -> None:
    table = read_table(counterexample_run)
    file = page_of(table, tmp_path / "controls.html")
    tab.open(file)
    assert len(cells(tab)) == 9
    assert_clean(tab, file)
    clouds = table.clouds.assign(
        points=[np.random.default_rng(0).integers(0, 255, (40, 3 * 8 * 8))] * len(table.clouds),
        shape=[np.array([3, 8, 8])] * len(table.clouds),
    )
    file = page_of(replace(table, clouds=clouds), tmp_path / "images.html")
    tab.open(file)
    assert tab.run("document.querySelectorAll('#samples img').length") == 3
    assert tab.run("document.querySelector('#samples img').getBoundingClientRect().width") > 250
    tab.click("#samples button")
    assert tab.run("document.querySelector('#zoom').open")
    assert tab.run("document.querySelector('#zoom img').getBoundingClientRect().width") > 500
    assert_clean(tab, file)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (4, 9))]
)
def test_studies_of_many_axes(tab: Tab, tmp_path: Path, seed: int) -> None:
    table = random_table(seed)
    for shown in (table, replace(table, selected=frozenset())):  # the second as of a search
        file = page_of(table, tmp_path / "report.html", shown=shown)
        tab.open(file)
        choose_all(tab, "1")
        looks = tab.run("data.headline ? data.headline.colours : []")
        assert len(looks) == len(set(looks))
        keys = tab.run("cells.map((c) => [c.panel, c.x, c.y].join('|'))")
        if shown is table:
            assert len(keys) == len(set(keys))  # one trial a square
        assert_clean(tab, file)


def test_samples_beyond_the_budget_are_left_out_and_said(
    tab: Tab, small_table: StudyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgray.reporting.explorer.samples._BUDGET", 4_000)
    file = page_of(small_table, tmp_path / "report.html")
    tab.open(file)
    note = tab.run("document.querySelector('#samples-note').textContent")
    assert re.search(r"\d+ sets of samples are not on this page", note)
    assert_clean(tab, file)
