"""``report.html``: one file that opens offline and loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dgray.reporting.explorer.library import plotting_library, script_hash, script_text
from dgray.reporting.figures.files import FORMATS
from dgray.reporting.figures.kinds import SEARCH_KINDS, RenderedFigure
from dgray.reporting.presentation import objective
from dgray.reporting.table import StudyTable
from dgray.reporting.text.data_read import DATA, data_lines
from dgray.reporting.text.finding import Finding
from dgray.reporting.text.searches import SearchLine

_OPENING = re.compile(r"^.*?<svg[^>]*?viewBox=\"(\S+ \S+ (\S+) \S+)\"[^>]*>", re.DOTALL)
# HTML needs no namespaces; matplotlib's style element would style the whole page.
_UNWANTED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
# Figures that the interactive part lacks.
_STATIC = {"error_against_samples", *(kind.name for kind in SEARCH_KINDS)}
_CONTROLS = "control_lenses"  # opens the page of a study without training
_PAGE_COLOURS = {  # greys of figures -> colours of the page, in light and in dark
    "#ffffff": "var(--paper)",
    "#222222": "var(--ink)",
    "#444444": "var(--ink)",
    "#777777": "var(--quiet)",
    "#888888": "var(--quiet)",
    "#aaaaaa": "var(--quiet)",
    "#bbbbbb": "var(--line)",
    "#e6e6e6": "var(--line)",
}


@dataclass(frozen=True)
class Source:
    """Content of the files of the run folder that the page quotes."""

    name: str
    description: str
    lock: str
    provenance: Mapping[str, Any]
    question: str = ""
    run: str = "RUN"  # as a command line names it


def render(template: str, **values: Any) -> str:
    """Return a template of this package with its values, which are escaped."""
    environment = Environment(
        loader=PackageLoader("dgray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def report_page(
    table: StudyTable,
    finding: Finding,
    figures: Sequence[RenderedFigure],
    source: Source,
    *,
    searches: Sequence[SearchLine] = (),
    explorer: Mapping[str, Any] | None = None,
    incomplete: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        table: the whole table of the study.
        finding: its statements and summary.
        figures: the figures that were drawn.
        source: files of the run folder that the page quotes.
        searches: the points that searches selected.
        explorer: data of the interactive part; None: figures instead.
        incomplete: why rows of the study are missing.
        failed: parts of the report that could not be made.
    """
    shown = [
        {
            "name": figure.kind.name,
            "title": figure.kind.title,
            "caption": figure.caption,
            "svg": inline_svg(figure.formats["svg"].decode(), figure.kind.name, figure.kind.title)
            if explorer is None
            or figure.kind.name in _STATIC
            or (figure.kind.name == _CONTROLS and not explorer["headline"])
            else "",
        }
        for figure in figures
    ]
    used = {name for row in finding.summary for name in row.estimates}
    script = render("report.js")
    library = plotting_library() if explorer else ""
    return render(
        "report.html.j2",
        source=source,
        provenance=_flat({k: v for k, v in source.provenance.items() if k != DATA}),
        data_lines=data_lines(source.provenance),
        finding=finding,
        topics=_topics(finding),
        summary_columns={c: label for c, label in table.summary_columns.items() if c in used},
        colours={row.objective: objective(row.objective).colour for row in finding.summary},
        explorer=explorer,
        data=script_text(json.dumps(explorer, ensure_ascii=False, separators=(",", ":"))),
        library=library,
        script=script,
        policy=f"default-src 'none'; script-src {script_hash(library)} {script_hash(script)}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
        command=f"dgray sample {shlex.quote(source.run)}",
        searches=searches,
        incomplete=incomplete,
        failed=failed,
        figures=shown,
        formats=FORMATS,
        failures=table.failures.to_dict("records"),
        num_rows=len(table.rows),
        num_trials=table.rows["trial"].nunique(),
    )


def inline_svg(svg: str, prefix: str, title: str) -> str:
    """Return the ``<svg>`` element of a file for use in a page.

    Every id gets a prefix, and the title is its accessible name. The figure scales with the page,
    up to one and a half times its size, so that the text of figures has similar sizes.
    """
    body = _UNWANTED.sub("", svg).replace("xlink:href", "href")
    for grey, colour in _PAGE_COLOURS.items():
        body = body.replace(f": {grey}", f": {colour}")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    label = html.escape(title)
    opening = (
        rf'<svg viewBox="\1" role="img" aria-label="{label}" '
        r'style="stroke-linejoin: round; stroke-linecap: butt; max-width: calc(2px * \2)">'
    )
    return _OPENING.sub(opening, body, count=1)


def _topics(finding: Finding) -> dict[str, list[Any]]:
    """Statements by topic, without the first one, which opens the page."""
    topics: dict[str, list[Any]] = {}
    for statement in finding.statements[1:]:
        topics.setdefault(statement.topic, []).append(statement)
    return topics


def _flat(provenance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as lines: (``versions.torch``, ``2.14``)."""
    lines: list[tuple[str, str]] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((prefix + key, value if isinstance(value, str) else json.dumps(value)))
    return lines
