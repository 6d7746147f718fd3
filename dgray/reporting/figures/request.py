"""One figure of a run, as a user requests it: name, style and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from dgray.errors import FigureError
from dgray.reporting.figures.files import FORMATS, Origin, numbers_csv, numbers_latex, pictures
from dgray.reporting.figures.kinds import KINDS, SEARCH_KINDS, FigureKind
from dgray.reporting.figures.style import REPORT, Style, styled
from dgray.reporting.figures.theme import Drawing
from dgray.reporting.searches import SearchPoints
from dgray.reporting.table import StudyTable
from dgray.reporting.where import select

ALL_KINDS = (*KINDS, *SEARCH_KINDS)


@dataclass(frozen=True)
class FigureRequest:
    """Figure of a run.

    Attributes:
        name: name of the figure (``ALL_KINDS``).
        style: its width and fonts.
        where: conditions on rows (``dgray.reporting.where``).
    """

    name: str
    style: Style = REPORT
    where: tuple[str, ...] = ()

    def draw(self, table: StudyTable, searches: tuple[SearchPoints, ...] = ()) -> Drawing:
        """Draw the figure.

        Args:
            table: rows of the run; of a search, those of the selected points.
            searches: searches of the run.

        Raises:
            FigureError: there is no such figure, the run lacks its numbers, or no row meets the
                conditions.
        """
        kind = kind_of(self.name)
        if kind in SEARCH_KINDS and self.where:
            raise FigureError(f"{self.name}: figures of searches show all points, without where")
        data = searches if kind in SEARCH_KINDS else select(table, self.where)
        with styled(self.style):
            drawing = kind.draw(data) if data else None
        if drawing is None:
            under = f" where {', '.join(self.where)}" if self.where else ""
            raise FigureError(f"this run has no numbers for the figure {self.name}{under}")
        if not self.where:
            return drawing
        return replace(drawing, caption=f"{drawing.caption} Only {', '.join(self.where)}.")

    def files(
        self,
        table: StudyTable,
        searches: tuple[SearchPoints, ...],
        origin: Origin,
        formats: Sequence[str] = FORMATS,
    ) -> dict[str, bytes]:
        """Draw the figure and return its files by name, with its numbers as CSV and LaTeX.

        Raises:
            FigureError: as ``draw``, or a format is unknown.
        """
        if unknown := [name for name in formats if name not in FORMATS]:
            raise FigureError(
                f"the format must be one of {', '.join(FORMATS)}, but is {unknown[0]!r}"
            )
        drawing = self.draw(table, searches)
        with styled(self.style):
            shown = pictures(drawing, self.name, origin, formats)
        is_of_search = kind_of(self.name) in SEARCH_KINDS
        shown["csv"] = numbers_csv(drawing)
        shown["tex"] = numbers_latex(drawing, self.name, origin, None if is_of_search else table)
        return {f"{self.name}.{ending}": content for ending, content in shown.items()}


def kind_of(name: str) -> FigureKind:
    """Return the figure of a name.

    Raises:
        FigureError: there is none; the message lists the names.
    """
    kinds = {kind.name: kind for kind in ALL_KINDS}
    if name not in kinds:
        near = get_close_matches(name, kinds, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise FigureError(f"no figure {name!r}{hint}; there are {', '.join(kinds)}")
    return kinds[name]
