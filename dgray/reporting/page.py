"""``report.html``: one file that opens offline; it asks for nothing outside itself.

Knows the table, the finding and the drawn figures; the template stands beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from dgray.reporting.figures.figures import Picture
from dgray.reporting.figures.svg import inline_svg
from dgray.reporting.table import StudyTable
from dgray.reporting.text.finding import Finding
from dgray.reporting.text.search_words import SearchLine
from dgray.reporting.text.summary import COLUMNS, estimate
from dgray.reporting.views import number, short

METRICS = (
    "path_kl",
    "path_kl_change",
    "kl",
    "kl_change",
    "kl_sde",
    "kl_sde_change",
    "kl_sde_floor",
    "kl_sampler",
    "kl_sampler_folded",
    "nll",
    "bits_per_dim",
    "fid",
    "fd",
    "fd_floor",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "memorisation",
    "validation_change",
    "score_error",
    "cross_entropy",
    "cross_entropy_gap",
    "loss_train",
    "loss_held_out",
    "overfit_gap",
    "accuracy",
    "calibration_error",
    "kl_unconverged",
)


@dataclass(frozen=True)
class Cell:
    """One cell of the page's table: what is read and what it is sorted by."""

    text: str
    key: str
    is_number: bool = False


@dataclass(frozen=True)
class Source:
    """The files of the run folder that the page quotes."""

    name: str
    description: str
    lock: str
    provenance: Mapping[str, Any]


def report_page(
    table: StudyTable,
    found: Finding,
    pictures: Sequence[Picture],
    source: Source,
    searches: Sequence[SearchLine] = (),
) -> str:
    """The whole page; ``searches``: what each of them chose."""
    environment = Environment(
        loader=PackageLoader("dgray.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = [
        {
            "name": picture.kind.name,
            "title": picture.kind.title,
            "caption": picture.kind.caption,
            "svg": inline_svg(
                picture.formats["svg"].decode(), picture.kind.name, picture.kind.title
            ),
        }
        for picture in pictures
    ]
    header, lines = page_table(table)
    return environment.get_template("report.html.j2").render(
        source=source,
        provenance=_flat(source.provenance),
        finding=found,
        topics=_topics(found),
        summary_columns=[c for c in COLUMNS if any(c in r.estimates for r in found.summary)],
        summary_names=COLUMNS,
        searches=searches,
        figures=figures,
        header=header,
        lines=lines,
        failures=table.failures.to_dict("records"),
        num_rows=len(table.rows),
        num_trials=table.rows["trial"].nunique(),
    )


def page_table(table: StudyTable) -> tuple[list[tuple[str, str]], list[list[Cell]]]:
    """Header (name, explanation) and lines of the sortable table, replicates averaged."""
    data = table.aggregated
    axes = [axis for axis in table.axes if axis != "fit.objective"]
    metrics = [name for name in METRICS if data[name].notna().any()]
    identity = ["objective", *map(short, axes), "epoch", "weight", "sampler", "replicates"]
    units = {field.name: field for field in table.schema}
    header = [(name, "") for name in identity]
    header += [(name, _explained(units[name].metadata)) for name in metrics]
    lines = [_line(row, axes, metrics) for _, row in data.iterrows()]
    return header, lines


def _line(row: pd.Series, axes: list[str], metrics: list[str]) -> list[Cell]:
    weight = row["guidance_weight"]
    identity: list[Any] = [row["objective"], *(row[axis] for axis in axes), row["epoch"]]
    cells = [_plain(value) for value in identity]
    is_calibrated = bool(row["is_calibrated"])
    cells.append(Cell("calibrated", "1e9", True) if is_calibrated else _plain(weight))
    cells += [_plain(_sampler(row)), _plain(row["replicates"])]
    for name in metrics:
        value = estimate(row, name)
        text = "" if value is None else str(value)
        cells.append(Cell(text, "" if value is None else repr(value.value), True))
    return cells


def _sampler(row: pd.Series) -> str:
    """The sampler with whatever else distinguishes the setting."""
    parts = [f"{row['sampler']} {row['num_steps']}"]
    if row["guided_stage"] != "both":
        parts.append(f"{row['guided_stage']} only")
    if not pd.isna(row["interval_low"]):
        parts.append(f"sigma {row['interval_low']:g} to {row['interval_high']:g}")
    return ", ".join(parts)


def _plain(value: Any) -> Cell:
    if isinstance(value, str):
        return Cell(value, value)
    return Cell("", "", True) if pd.isna(value) else Cell(number(value), repr(float(value)), True)


def _explained(metadata: Mapping[bytes, bytes]) -> str:
    unit = metadata.get(b"unit", b"").decode()
    doc = metadata.get(b"doc", b"").decode()
    return f"{doc} ({unit})" if unit else doc


def _topics(found: Finding) -> dict[str, list[Any]]:
    topics: dict[str, list[Any]] = {}
    for statement in found.statements:
        topics.setdefault(statement.topic, []).append(statement)
    return topics


def _flat(provenance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as lines: ``versions.torch``, ``2.14``."""
    lines: list[tuple[str, str]] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((prefix + key, value if isinstance(value, str) else json.dumps(value)))
    return lines
