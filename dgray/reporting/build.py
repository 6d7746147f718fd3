"""Build the report of a run folder from its rows: table, figures, page and event files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML

from dgray.errors import NoRowsError, NotARunError
from dgray.record.run_folder import RunFolder
from dgray.reporting.figures.kinds import (
    FORMATS,
    KINDS,
    SEARCH_KINDS,
    render_figures,
    render_search_figures,
)
from dgray.reporting.page import Source, report_page
from dgray.reporting.searches import chosen_trials, mark_points, points_table, read_searches
from dgray.reporting.table import StudyTable, study_table, write_parquet
from dgray.reporting.tensorboard.writer import rebuild
from dgray.reporting.text.finding import Finding, find
from dgray.reporting.text.searches import search_lines, search_statements


@dataclass(frozen=True)
class Report:
    """Places of the parts of a report, and its finding."""

    page: Path
    table: Path
    figures: tuple[Path, ...]
    tensorboard: Path
    finding: Finding


def read_table(folder: Path) -> StudyTable:
    """Return the table of a run folder.

    Raises:
        NotARunError: if the folder is not a run folder.
        NoRowsError: if it has no rows yet.
    """
    if not (folder / "rows").is_dir():
        raise NotARunError(
            f"{folder}: a run folder has a folder 'rows', but this one has none; give the folder "
            f"that python -m dgray.study printed"
        )
    run = RunFolder(folder)
    try:
        return study_table(run.row_table(), run.clouds(), run.losses())
    except NoRowsError as error:
        raise NoRowsError(f"{folder}: {error}") from None


def build_report(folder: Path) -> Report:
    """Write report.parquet, figures/, report.html and tensorboard/ of a run folder.

    Raises:
        NotARunError: if the folder is not a run folder.
        NoRowsError: if it has no rows yet.
    """
    table = read_table(folder)
    run = RunFolder(folder)
    searches = read_searches(folder, table)
    write_parquet(mark_points(table, searches), folder / "report.parquet")
    shown = chosen_trials(table, searches) if searches else table
    finding = find(shown)
    finding = replace(finding, statements=(*search_statements(searches), *finding.statements))
    figures = [*render_search_figures(searches), *render_figures(shown)]
    if searches:
        run.files.write("search.parquet", points_table(searches).to_parquet(index=False))
    files = {
        f"figures/{figure.kind.name}.{ending}": content
        for figure in figures
        for ending, content in figure.formats.items()
    }
    for name, content in files.items():
        run.files.write(name, content)
    _remove_outdated(folder / "figures", keep={Path(name).name for name in files})
    page = report_page(table, finding, figures, _source(folder), search_lines(searches))
    run.files.write("report.html", page.encode())
    rebuild(table, folder / "tensorboard", searches=searches)
    return Report(
        page=folder / "report.html",
        table=folder / "report.parquet",
        figures=tuple(folder / name for name in files),
        tensorboard=folder / "tensorboard",
        finding=finding,
    )


def _remove_outdated(folder: Path, *, keep: set[str]) -> None:
    """Remove figures of an earlier report that this one lacks, and no other file."""
    names = {f"{kind.name}.{ending}" for kind in (*KINDS, *SEARCH_KINDS) for ending in FORMATS}
    for name in names - keep:
        (folder / name).unlink(missing_ok=True)


def _source(folder: Path) -> Source:
    lock_file, provenance_file = folder / "study.lock.yaml", folder / "provenance.json"
    lock = lock_file.read_text("utf-8") if lock_file.exists() else ""
    provenance = json.loads(provenance_file.read_text("utf-8")) if provenance_file.exists() else {}
    study = YAML(typ="safe", pure=True).load(lock) or {}
    return Source(
        name=study.get("name") or folder.resolve().name,
        description=study.get("description") or "",
        lock=lock,
        provenance=provenance,
    )
