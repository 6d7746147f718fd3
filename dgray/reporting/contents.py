"""Contents of a run, as reports, figures and comparisons read them."""

from __future__ import annotations

from dataclasses import dataclass

from dgray.record.run_folder import RunFolder
from dgray.reporting.build import source_of, table_of
from dgray.reporting.figures.files import Origin, origin
from dgray.reporting.page import Source
from dgray.reporting.searches import SearchPoints, chosen_trials, read_searches
from dgray.reporting.table import StudyTable


@dataclass(frozen=True)
class RunContents:
    """Rows of a run with their searches, study and provenance.

    Attributes:
        table: all rows.
        shown: the rows of figures and statements: of a search those of the selected points.
        searches: searches of the study.
        source: name, study file and provenance.
    """

    table: StudyTable
    shown: StudyTable
    searches: tuple[SearchPoints, ...]
    source: Source

    @property
    def origin(self) -> Origin:
        """Study and versions of the rows, for the metadata of files."""
        return origin(self.source.name, self.source.provenance)


def read_contents(folder: RunFolder) -> RunContents:
    """Return the contents of a run.

    Raises:
        NotARunError: the folder is not a run folder.
        NoRowsError: it has no rows yet.
    """
    table = table_of(folder)
    searches = read_searches(folder, table)
    shown = chosen_trials(table, searches) if searches else table
    return RunContents(table, shown, searches, source_of(folder))
