"""``report.html``: one file that opens offline and loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from dgray.reporting.estimate import estimate
from dgray.reporting.figures.files import FORMATS
from dgray.reporting.figures.kinds import RenderedFigure
from dgray.reporting.legible import printable
from dgray.reporting.presentation import objective
from dgray.reporting.selection import OBJECTIVE, number, short
from dgray.reporting.table import StudyTable
from dgray.reporting.text.data_read import DATA, data_lines
from dgray.reporting.text.finding import Finding
from dgray.reporting.text.searches import SearchLine

_OPENING = re.compile(r"^.*?<svg[^>]*?viewBox=\"(\S+ \S+ (\S+) \S+)\"[^>]*>", re.DOTALL)
# HTML needs no namespaces; matplotlib's style element would style the whole page.
_UNWANTED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_LAST = repr(1e9)  # sorts the calibrated weight after every constant one


@dataclass(frozen=True)
class TableCell:
    """One cell of the table on the page: its text and the key by which it is sorted."""

    text: str
    key: str
    is_number: bool = False


@dataclass(frozen=True)
class Source:
    """Content of the files of the run folder that the page quotes."""

    name: str
    description: str
    lock: str
    provenance: Mapping[str, Any]
    question: str = ""


def report_page(
    table: StudyTable,
    finding: Finding,
    figures: Sequence[RenderedFigure],
    source: Source,
    *,
    searches: Sequence[SearchLine] = (),
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
        incomplete: why rows of the study are missing.
        failed: parts of the report that could not be made.
    """
    environment = Environment(
        loader=PackageLoader("dgray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "name": figure.kind.name,
            "title": figure.kind.title,
            "caption": figure.caption,
            "svg": inline_svg(figure.formats["svg"].decode(), figure.kind.name, figure.kind.title),
        }
        for figure in figures
    ]
    used = {name for row in finding.summary for name in row.estimates}
    header, lines = page_table(table)
    return environment.get_template("report.html.j2").render(
        source=source,
        provenance=_flat({k: v for k, v in source.provenance.items() if k != DATA}),
        data_lines=data_lines(source.provenance),
        finding=finding,
        topics=_topics(finding),
        summary_columns={c: label for c, label in table.summary_columns.items() if c in used},
        colours={row.objective: objective(row.objective).colour for row in finding.summary},
        searches=searches,
        incomplete=incomplete,
        failed=failed,
        figures=shown,
        formats=FORMATS,
        header=header,
        lines=lines,
        failures=table.failures.to_dict("records"),
        num_rows=len(table.rows),
        num_trials=table.rows["trial"].nunique(),
    )


def page_table(table: StudyTable) -> tuple[list[tuple[str, str]], list[list[TableCell]]]:
    """Return the header (name, meaning) and the lines of the table, replicates averaged."""
    data = table.aggregated
    axes = [axis for axis in table.axes if axis != OBJECTIVE]
    metrics = [name for name in table.score_columns if data[name].notna().any()]
    identity = ["objective", *map(short, axes), "epoch", "weight", "sampler", "replicates"]
    header = [(name, "") for name in identity]
    header += [(name, _meaning(table.schema.field(name).metadata)) for name in metrics]
    return header, [_line(row, axes, metrics) for _, row in data.iterrows()]


def inline_svg(svg: str, prefix: str, title: str) -> str:
    """Return the ``<svg>`` element of a file for use in a page.

    Every id gets a prefix, and the title is its accessible name. The figure scales with the page,
    up to one and a half times its size, so that the text of figures has similar sizes.
    """
    body = _UNWANTED.sub("", svg).replace("xlink:href", "href")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    label = html.escape(title)
    opening = (
        rf'<svg viewBox="\1" role="img" aria-label="{label}" '
        r'style="stroke-linejoin: round; stroke-linecap: butt; max-width: calc(2px * \2)">'
    )
    return _OPENING.sub(opening, body, count=1)


def _line(row: pd.Series, axes: list[str], metrics: list[str]) -> list[TableCell]:
    identity: list[Any] = [row["objective"], *(row[axis] for axis in axes), row["epoch"]]
    cells = [_plain(value) for value in identity]
    is_calibrated = bool(row["is_calibrated"])
    weight = (
        TableCell("calibrated", _LAST, True) if is_calibrated else _plain(row["guidance_weight"])
    )
    cells += [weight, _plain(_sampler(row)), _plain(row["replicates"])]
    for name in metrics:
        value = estimate(row, name)
        text = "" if value is None else str(value)
        cells.append(TableCell(text, "" if value is None else repr(value.value), True))
    return cells


def _sampler(row: pd.Series) -> str:
    """The sampler with its steps, guided stages and interval."""
    parts = [f"{row['sampler']} {row['num_steps']}"]
    if row["guided_stage"] != "both":
        parts.append(f"{row['guided_stage']} only")
    if not pd.isna(row["interval_low"]):
        parts.append(f"sigma {row['interval_low']:g} to {row['interval_high']:g}")
    return ", ".join(parts)


def _plain(value: Any) -> TableCell:
    if isinstance(value, str):
        return TableCell(printable(value), value)
    if pd.isna(value):
        return TableCell("", "", True)
    return TableCell(number(value), repr(float(value)), True)


def _meaning(metadata: Mapping[bytes, bytes] | None) -> str:
    unit = (metadata or {}).get(b"unit", b"").decode()
    doc = (metadata or {}).get(b"doc", b"").decode()
    return f"{doc} ({unit})" if unit else doc


def _topics(finding: Finding) -> dict[str, list[Any]]:
    topics: dict[str, list[Any]] = {}
    for statement in finding.statements:
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
