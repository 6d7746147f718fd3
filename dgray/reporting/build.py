"""Everything a report is: table, figures, page, event files, from the rows of a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML

from dgray.errors import NoRowsError, NotARunError
from dgray.record.run_folder import RunFolder
from dgray.reporting.figures.figures import KINDS, SEARCH_KINDS, pictures, search_pictures
from dgray.reporting.page import Source, report_page
from dgray.reporting.search_marks import marked
from dgray.reporting.search_table import chosen_trials, points_table, read_searches
from dgray.reporting.table import StudyTable, study_table, write_parquet
from dgray.reporting.tensorboard.tensorboard import rebuild
from dgray.reporting.text.finding import Finding, finding
from dgray.reporting.text.search_words import search_lines, search_statements


@dataclass(frozen=True)
class ReportPaths:
    """Where the parts of a report are, and what it found."""

    page: Path
    table: Path
    figures: tuple[Path, ...]
    tensorboard: Path
    finding: Finding


def read_table(folder: Path) -> StudyTable:
    """The rows of a run folder; NotARunError or NoRowsError if there are none."""
    if not (folder / "rows").is_dir():
        raise NotARunError(
            f"{folder}: a run folder has a folder 'rows', and this has none; give the folder that "
            f"python -m dgray.study printed"
        )
    run = RunFolder(folder)
    return study_table(run.rows(), run.clouds(), run.losses(), run.added_columns())


def build_report(folder: Path) -> ReportPaths:
    """Write report.parquet, figures/, report.html and tensorboard/ anew."""
    try:
        table = read_table(folder)
    except NoRowsError as error:
        raise NoRowsError(f"{folder}: {error}") from None
    run = RunFolder(folder)
    searches = read_searches(folder, table)
    write_parquet(marked(table, searches), folder / "report.parquet")
    shown = chosen_trials(table, searches) if searches else table
    found = finding(shown)
    found = replace(found, statements=(*search_statements(searches), *found.statements))
    drawn = [*search_pictures(searches), *pictures(shown)]
    if searches:
        run.files.write("search.parquet", points_table(searches).to_parquet(index=False))
    files = {
        f"figures/{picture.kind.name}.{ending}": content
        for picture in drawn
        for ending, content in picture.formats.items()
    }
    for name, content in files.items():
        run.files.write(name, content)
    _remove_outdated(folder / "figures", keep={Path(name).name for name in files})
    page = report_page(table, found, drawn, _source(folder), search_lines(searches))
    run.files.write("report.html", page.encode())
    rebuild(table, folder / "tensorboard", searches=searches)
    return ReportPaths(
        page=folder / "report.html",
        table=folder / "report.parquet",
        figures=tuple(folder / name for name in files),
        tensorboard=folder / "tensorboard",
        finding=found,
    )


def _remove_outdated(folder: Path, *, keep: set[str]) -> None:
    """Figures of an earlier report that these rows no longer give; nothing else in the folder."""
    ours = {
        f"{kind.name}.{ending}"
        for kind in (*KINDS, *SEARCH_KINDS)
        for ending in ("svg", "pdf", "png")
    }
    for name in ours - keep:
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
