"""Table of the page: sorting, filter, and the column that stays in view."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dgray.reporting.table import StudyTable
from tests.reporting.devtools import Tab
from tests.reporting.pages import (
    column,
    header,
    lines,
    type_filter,
    value,
)

pytestmark = pytest.mark.browser


def test_page_opens_with_all_rows_unsorted(page: Tab, table: StudyTable) -> None:
    count = len(table.aggregated)
    assert page.run("document.querySelector('#count').textContent").startswith(
        f"{count} of {count}"
    )
    assert len(lines(page)) == 300  # the others on request
    page.click("#all-rows")
    assert len(lines(page)) == count
    sorted_by = page.run("[...table.tHead.rows[0].cells].map((c) => c.getAttribute('aria-sort'))")
    assert set(sorted_by) == {"none"}


def test_click_sorts_by_number_and_second_click_reverses(page: Tab) -> None:
    page.click("#all-rows")
    heading = f"#rows thead th:nth-child({header(page).index('kl_change') + 1}) button"
    page.click(heading)
    rising = list(map(value, column(page, "kl_change")))
    assert page.run("[...document.querySelectorAll('[aria-sort=\"ascending\"]')].length") == 1
    page.click(heading)
    falling = list(map(value, column(page, "kl_change")))
    assert len(set(rising)) > 100
    assert rising[0] < -0.1 < 1 < rising[-1]
    # Texts are rounded, each by its own error, so neighbours may look out of order by less.
    assert all(after - before > -0.01 for before, after in pairwise(rising))
    assert all(after - before < 0.01 for before, after in pairwise(falling))
    assert sorted(rising) == sorted(falling)


def test_missing_values_stay_last_and_calibrated_after_every_number(page: Tab) -> None:
    page.click("#all-rows")
    heading = f"#rows thead th:nth-child({header(page).index('kl_sde') + 1}) button"
    for _ in range(2):
        page.click(heading)
        texts = column(page, "kl_sde")
        present = [text for text in texts if text]
        assert 0 < len(present) < len(texts)
        assert texts[: len(present)] == present
    page.click(f"#rows thead th:nth-child({header(page).index('weight') + 1}) button")
    weights = column(page, "weight")
    assert weights == sorted(weights, key=lambda text: (text == "calibrated", text))
    assert (weights[0], weights[-1]) == ("0", "calibrated")


def test_filter_matches_values_of_columns_words_and_whole_numbers(
    page: Tab, table: StudyTable
) -> None:
    type_filter(page, "objective kl")
    assert set(column(page, "objective")) == {"kl"}
    count = 2 * 3 * 2 * 4 * 5
    assert page.run("document.querySelector('#count').textContent") == (
        f"{count} of {len(table.aggregated)} rows"
    )
    type_filter(page, "objective kl  WIDTH 128 epoch 400")
    assert len(lines(page)) == 2 * 2 * 5
    page.click(f"#rows thead th:nth-child({header(page).index('kl') + 1}) button")
    assert len(lines(page)) == 2 * 2 * 5  # sorting keeps the filter
    type_filter(page, "cross")
    assert set(column(page, "objective")) == {"cross_entropy"}
    for text in ("12", "no such row"):  # not the 12 of 128
        type_filter(page, text)
        assert lines(page) == []
    type_filter(page, "")
    assert len(lines(page)) == 300


def test_first_column_of_the_table_stays_in_view(page: Tab) -> None:
    left = "table.tBodies[0].rows[3].cells[0].getBoundingClientRect().left"
    before, other = page.run(left), page.run(left.replace("cells[0]", "cells[1]"))
    page.run("table.parentElement.scrollLeft = 400")
    assert page.run(left) == before
    assert page.run(left.replace("cells[0]", "cells[1]")) == other - 400
