"""Build the report of a run folder from its rows: table, figures, page and event files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dgray.errors import NoRowsError, NotARunError, RecordError
from dgray.files import inside
from dgray.record.inspect import read_lock
from dgray.record.provenance import read_provenance
from dgray.record.run_files import FORMAT_FILE, LOCK_FILE, RUN_MARKS
from dgray.record.run_folder import RunFolder
from dgray.record.run_format import read_mark
from dgray.record.storage.location import Uri
from dgray.reporting.completeness import gaps
from dgray.reporting.explorer.data import explorer_data
from dgray.reporting.figures.files import FORMATS, origin
from dgray.reporting.figures.kinds import (
    KINDS,
    SEARCH_KINDS,
    FailedFigure,
    RenderedFigure,
    render_figures,
    render_search_figures,
)
from dgray.reporting.legible import printable
from dgray.reporting.page import Source, report_page
from dgray.reporting.searches import chosen_trials, mark_points, points_table, read_searches
from dgray.reporting.table import StudyTable, study_table, write_parquet
from dgray.reporting.tensorboard.writer import rebuild
from dgray.reporting.text.finding import Finding, find
from dgray.reporting.text.searches import search_lines


@dataclass(frozen=True)
class Report:
    """Places of the parts of a report, and its finding.

    Attributes:
        incomplete: why the run lacks rows of its study; empty if it has all.
        failed: parts of the report that could not be made, each with the reason.
    """

    page: Path
    table: Path
    figures: tuple[Path, ...]
    tensorboard: Path
    finding: Finding
    incomplete: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lines for the terminal, before everything else."""
        return (*(f"incomplete run: {text}" for text in self.incomplete), *self.failed)


def read_table(folder: Path) -> StudyTable:
    """Return the table of a run folder.

    Raises:
        NotARunError: if the folder is not a run folder.
        NoRowsError: if it has no rows yet.
    """
    return table_of(RunFolder(folder))


def refuse_other_folder(run: RunFolder) -> None:
    """Refuse a folder that is not a run folder.

    Raises:
        NotARunError: if it has none of the files of a run.
    """
    if not any((run.path / name).exists() for name in RUN_MARKS):
        raise NotARunError(
            f"{run.where}: a run folder has at least one of {', '.join(RUN_MARKS)}, but this one "
            "has none; give the folder that dgray run printed"
        )


def table_of(run: RunFolder) -> StudyTable:
    """Return ``read_table`` of a run that notes what it leaves out."""
    refuse_other_folder(run)
    try:
        clouds, losses = run.clouds(), run.losses()
        return study_table(run.row_table(), clouds, losses)  # of which it keeps no reference
    except NoRowsError as error:
        raise NoRowsError(f"{run.where}: {error}") from None


def build_report(
    folder: Path,
    *,
    has_events: bool = True,
    all_scalars: bool = False,
    where: Path | Uri | str | None = None,
    stored: Collection[str] = (),
) -> Report:
    """Write report.parquet, figures/, report.html and tensorboard/ of a run folder.

    Args:
        folder: the run folder.
        has_events: whether TensorBoard's files are written.
        all_scalars: whether they hold every metric of every setting, not only the front page.
        where: place of the run, as commands name it; None: ``folder``.
        stored: names of records that are in an object store, which the folder may lack.

    Raises:
        NotARunError: if the folder is not a run folder.
        NoRowsError: if it has no rows yet.
    """
    run = RunFolder(folder, where=None if where is None else str(where))
    for name in ("report.parquet", "search.parquet", "figures", "tensorboard", "report.html"):
        inside(folder, name)  # refused before anything is computed
    table = table_of(run)
    searches = read_searches(run, table)
    source = source_of(run)
    incomplete = gaps(run, table, searches, stored)
    write_parquet(mark_points(table, searches), inside(folder, "report.parquet"), incomplete)
    shown = chosen_trials(table, searches) if searches else table
    finding = find(shown, source.question, searches)
    note = "Trials of searches: those of the points that the searches selected."
    made_from = origin(source.name, source.provenance)
    drawn = [
        *render_search_figures(searches, made_from),
        *render_figures(shown, made_from, note if searches else ""),
    ]
    figures = [figure for figure in drawn if isinstance(figure, RenderedFigure)]
    failed = [str(figure) for figure in drawn if isinstance(figure, FailedFigure)]
    if searches:
        run.files.write("search.parquet", points_table(searches).to_parquet(index=False))
    files = {
        f"figures/{figure.kind.name}.{ending}": content
        for figure in figures
        for ending, content in figure.formats.items()
    }
    for name, content in files.items():
        run.files.write(name, content)
    _remove_outdated(run, keep=set(files))
    events = inside(folder, "tensorboard")
    try:
        if has_events:
            named = {"finding": _finding_text(finding), **study_text(source)}
            rebuild(table, events, searches=searches, named_texts=named, has_all=all_scalars)
    except Exception as error:
        failed.append(f"the TensorBoard files could not be written: {error!r}")
    explorer = None
    try:
        explorer = explorer_data(table, shown, finding.comparisons)
    except Exception as error:
        failed.append(f"the interactive figures could not be made: {error!r}")
    page = report_page(
        table,
        finding,
        figures,
        source,
        searches=search_lines(searches),
        explorer=explorer,
        incomplete=incomplete,
        failed=failed,
    )
    run.files.write("report.html", page.encode("utf-8", "backslashreplace"))
    return Report(
        page=folder / "report.html",
        table=folder / "report.parquet",
        figures=tuple(folder / name for name in files),
        tensorboard=folder / "tensorboard",
        finding=finding,
        incomplete=incomplete,
        failed=tuple(failed),
    )


def study_text(source: Source) -> dict[str, str]:
    """Return the study file as a text for TensorBoard, by its tag; empty if it is missing."""
    if not source.lock:
        return {}
    return {"study file": "\n".join(f"    {line}" for line in source.lock.splitlines())}


def _finding_text(finding: Finding) -> str:
    """Return the statements as Markdown, in which text of users has no meaning of its own."""
    lines = [printable(statement.text) for statement in finding.statements]
    marks = str.maketrans({mark: f"&#{ord(mark)};" for mark in r"\`*_{}[]<>#|&"})
    return "\n".join(f"- {line.translate(marks)}" for line in lines)


def _remove_outdated(run: RunFolder, *, keep: set[str]) -> None:
    """Remove figures of an earlier report that this one lacks, and no other file."""
    kinds = [kind.name for kind in (*KINDS, *SEARCH_KINDS)]
    names = {f"figures/{kind}.{ending}" for kind in kinds for ending in FORMATS}
    for name in names - keep:
        run.files.delete(name)


def source_of(run: RunFolder) -> Source:
    """Return what the page quotes; damaged files are left out."""
    lock, study = "", {}
    try:
        content = run.files.read_record(LOCK_FILE)
        if content is not None:
            study, lock = read_lock(content), content.decode()
    except RecordError as error:
        run.files.leave_out(LOCK_FILE, error)
    try:
        read_mark(run.files)
    except RecordError as error:
        run.files.leave_out(FORMAT_FILE, error)
    return Source(
        name=str(study.get("name") or run.path.resolve().name),
        description=str(study.get("description") or ""),
        lock=lock,
        provenance=read_provenance(run.files),
        question=str(study.get("question") or ""),
        run=str(run.where),
    )
