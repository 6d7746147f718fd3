"""Writes one figure of a run with its numbers, or lists the names of its figures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO

from dgray.cli.output import printed
from dgray.files import inside, output_folder, write_atomically
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import reading
from dgray.reporting.build import refuse_other_folder
from dgray.reporting.contents import RunContents, read_contents
from dgray.reporting.figures.files import FORMATS
from dgray.reporting.figures.request import ALL_KINDS, FigureRequest, kind_of
from dgray.reporting.figures.style import style_of
from dgray.reporting.legible import printable


def list_figures(run: str) -> int:
    """Print the name and title of each figure of a run; return the exit status."""
    place = location(run)
    with reading(place) as folder:
        refuse_other_folder(folder)
        figures = place / "figures" if isinstance(place, Path) else None
        drawn = {path.stem for path in figures.glob("*.*")} if figures else set()
    longest = max(len(kind.name) for kind in ALL_KINDS)
    for kind in ALL_KINDS:
        absent = "  (not in the report of this run)" if drawn and kind.name not in drawn else ""
        print(f"{kind.name:{longest}}  {kind.title}{absent}")
    return printed()


def write(
    run: str,
    name: str,
    *,
    width: str | None,
    font: str | None,
    size: float | None,
    where: tuple[str, ...],
    formats: tuple[str, ...],
    out: Path,
) -> int:
    """Write the files of a figure, print their names, and return the exit status."""
    kind_of(name)  # a wrong name is refused before the run is read
    request = FigureRequest(name, style_of(width, font, size), where)
    contents = _read(run)
    files = request.files(contents.shown, contents.searches, contents.origin, formats or FORMATS)
    folder = output_folder(out)
    for file_name, content in files.items():
        path = inside(folder, file_name)
        write_atomically(path, partial(_write, content))
        print(printable(str(path)))
    return printed()


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _read(run: str) -> RunContents:
    with reading(location(run)) as folder:
        return read_contents(folder)
