"""A browser tab, and the page of the overfitting study in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dgray.reporting.build import read_table
from dgray.reporting.table import StudyTable
from tests.reporting.devtools import Tab, browser_tab
from tests.reporting.pages import assert_clean, page_of


@pytest.fixture(scope="session")
def tab(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(browser, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="session")
def table(overfit_run: Path) -> StudyTable:
    return read_table(overfit_run)


@pytest.fixture(scope="session")
def file(table: StudyTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(table, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(tab: Tab, file: Path) -> Iterator[Tab]:
    """The page, just opened; nothing may have gone wrong on it by the end of the test."""
    tab.open(file)
    yield tab
    assert_clean(tab, file)


@pytest.fixture
def unchanged_page(tab: Tab, file: Path) -> Iterator[Tab]:
    """The page for a test that only reads it: one after the other, such tests open it once."""
    if tab.unchanged != file:
        tab.open(file)
    yield tab
    assert_clean(tab, file)
    tab.unchanged = file
