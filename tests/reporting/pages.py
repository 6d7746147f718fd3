"""Pages of synthetic studies in a browser: how tests write, read and operate them."""

from __future__ import annotations

import json
from pathlib import Path

from dgray.reporting.explorer.data import explorer_data
from dgray.reporting.figures.kinds import KINDS, RenderedFigure
from dgray.reporting.page import Source, report_page
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import find
from tests.reporting.devtools import Tab

HEADLINE = RenderedFigure(
    KINDS[0], "Caption of the first figure.", {"svg": b'<svg viewBox="0 0 1 1"></svg>'}
)
CELLS = '#map [aria-roledescription="rect mark"][aria-label]'
TABLE = "[...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.textContent))"


def page_of(table: StudyTable, file: Path, *, shown: StudyTable | None = None) -> Path:
    """Write the page of a study; ``shown``: the points that its searches selected."""
    finding = find(shown or table)
    explorer = explorer_data(table, shown or table, finding.comparisons)
    source = Source(name="study", description="Question?", lock="", provenance={}, run="runs/a b")
    page = report_page(table, finding, [HEADLINE], source, explorer=explorer)
    file.write_text(page, "utf-8", "backslashreplace")
    return file


def assert_clean(tab: Tab, file: Path) -> None:
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [file.as_uri()]


def cells(tab: Tab) -> list[str]:
    """Return the label of each square of the map, for screen readers."""
    return list(
        tab.run(
            f"[...document.querySelectorAll('{CELLS}')].map((c) => c.getAttribute('aria-label'))"
        )
    )


def lines(tab: Tab) -> list[list[str]]:
    return list(tab.run(TABLE))


def header(tab: Tab) -> list[str]:
    return list(tab.run("[...table.tHead.rows[0].cells].map((c) => c.textContent.trim())"))


def column(tab: Tab, name: str) -> list[str]:
    index = header(tab).index(name)
    return [line[index] for line in lines(tab)]


def value(text: str) -> float:
    """``−0.0019 ± 0.0013`` -> -0.0019."""
    return float(text.partition(" ")[0].replace("\N{MINUS SIGN}", "-"))


def type_filter(tab: Tab, text: str) -> None:
    tab.run(
        f"(() => {{ const box = document.querySelector('#filter'); box.value = {json.dumps(text)};"
        "box.dispatchEvent(new Event('input')); })()"
    )


def choose_all(tab: Tab, index: str) -> None:
    """Choose an option of each list, one after the other."""
    for choice in tab.run("[...document.querySelectorAll('#choices select')].map((s) => s.id)"):
        tab.run(
            f"(() => {{ const s = document.getElementById({json.dumps(choice)}); if (!s) return;"
            f"s.selectedIndex = {index}; s.dispatchEvent(new Event('change')); }})()"
        )
    tab.settle()
