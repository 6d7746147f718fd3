"""Pages of synthetic studies, for tests in a browser."""

from __future__ import annotations

from pathlib import Path

from dgray.reporting.explorer.data import explorer_data
from dgray.reporting.figures.kinds import KINDS, RenderedFigure
from dgray.reporting.page import Source, report_page
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import find

HEADLINE = RenderedFigure(
    KINDS[0], "Caption of the first figure.", {"svg": b'<svg viewBox="0 0 1 1"></svg>'}
)


def page_of(table: StudyTable, file: Path, *, shown: StudyTable | None = None) -> Path:
    """Write the page of a study; ``shown``: the points that its searches selected."""
    finding = find(shown or table)
    explorer = explorer_data(table, shown or table, finding.comparisons)
    source = Source(name="study", description="Question?", lock="", provenance={}, run="runs/a b")
    page = report_page(table, finding, [HEADLINE], source, explorer=explorer)
    file.write_text(page, "utf-8", "backslashreplace")
    return file
