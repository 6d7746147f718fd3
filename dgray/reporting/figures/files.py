"""Files of a figure: pictures with their origin in the metadata, numbers, and a LaTeX table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from fontTools.subset import Options  # type: ignore[import-untyped]
from matplotlib.figure import Figure

import dgray
from dgray.reporting.figures.latex import latex_table
from dgray.reporting.figures.theme import Drawing, fix_layout
from dgray.reporting.legible import encodable, printable
from dgray.reporting.presentation import objective
from dgray.reporting.table import StudyTable

FORMATS = ("svg", "pdf", "png")


@dataclass(frozen=True)
class Origin:
    """Run that the numbers of a figure are from.

    Attributes:
        run: name of its study.
        commits: commits of dgray that computed its rows, one per version in the order of the
            sessions; ``+`` marks uncommitted changes.
    """

    run: str
    commits: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line such as ``run overfit, dgray 0.1.0, commit 8deb5aa...``."""
        commits = ", ".join(self.commits) or "unknown"
        return printable(f"run {self.run}, dgray {dgray.__version__}, commit {commits}")


def origin(name: str, provenance: Mapping[str, Any]) -> Origin:
    """Return the origin of the numbers of a run, given the content of its provenance."""
    commits: dict[str, None] = {}
    for session in provenance.get("sessions", []):
        git = session.get("git") if isinstance(session, Mapping) else None
        if isinstance(git, Mapping) and git.get("commit"):
            commits[f"{git['commit']}{'+' if git.get('is_dirty') else ''}"] = None
    return Origin(name, tuple(commits))


def pictures(
    drawing: Drawing, name: str, of: Origin, formats: Sequence[str] = FORMATS
) -> dict[str, bytes]:
    """Return the content of the files of a drawing by format; call in the block of its style.

    The same rows of the same run give the same files, byte for byte.
    """
    figure = drawing.figure
    fix_layout(figure)
    with matplotlib.rc_context({"svg.hashsalt": name}), _plain_fonts():
        return {ending: _saved(figure, ending, drawing, name, of) for ending in formats}


def numbers_csv(drawing: Drawing) -> bytes:
    """Return the numbers of a drawing as CSV."""
    return encodable(drawing.data.to_csv(index=False, lineterminator="\n")).encode()


def numbers_latex(drawing: Drawing, name: str, of: Origin, table: StudyTable | None) -> bytes:
    """Return the numbers of a drawing as a LaTeX table; ``table``: titles of its columns."""
    heads = {
        column: (table.title(column), table.unit(column))
        for column in drawing.table
        if table is not None and column in table.columns
    }
    shown = drawing.table
    if "objective" in shown:
        shown = shown.assign(objective=[objective(name).title for name in shown["objective"]])
    comment = f"Figure {name} of {of}"
    caption = f"{drawing.heading}. {drawing.caption}"
    return latex_table(shown, heads, caption, f"tab:{name}", comment).encode()


@contextmanager
def _plain_fonts() -> Iterator[None]:
    """Embed fonts without the tables for typesetting, which a PDF does not need.

    They would be read and written for each font of each file, half of the time for a file.
    matplotlib has no parameter for it.
    """
    tables = Options._drop_tables_default
    Options._drop_tables_default = [*tables, "GSUB", "GPOS", "GDEF", "kern"]
    try:
        yield
    finally:
        Options._drop_tables_default = tables


def _saved(figure: Figure, ending: str, drawing: Drawing, name: str, of: Origin) -> bytes:
    # Dates and versions of libraries would make equal figures differ.
    title, text = f"{drawing.heading} ({of.run})", encodable(drawing.caption)
    title, source = encodable(printable(title)), encodable(str(of))
    metadata: dict[str, Any] = {
        "svg": {
            "Title": title,
            "Description": text,
            "Source": source,
            "Identifier": name,
            "Creator": f"dgray {dgray.__version__}",
            "Date": None,
        },
        "pdf": {
            "Title": title,
            "Subject": text,
            "Keywords": source,
            "Creator": f"dgray {dgray.__version__}",
            "Producer": None,
            "CreationDate": None,
        },
        "png": {"Title": title, "Description": text, "Source": source, "Software": "dgray"},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, metadata=metadata[ending])
    return buffer.getvalue()
