"""Comparison of several runs with the first of them: its numbers, page and table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from dgray.data.summary import counted
from dgray.errors import NoRowsError, RunRefusedError
from dgray.files import write_atomically
from dgray.record.storage.location import location
from dgray.record.storage.working_copy import reading
from dgray.reporting.compare.differences import Difference, RunPair, adjusted
from dgray.reporting.compare.figure import differences_figure
from dgray.reporting.compare.studies import ComparedRun, differing
from dgray.reporting.comparisons import LEVEL
from dgray.reporting.completeness import gaps
from dgray.reporting.contents import read_contents
from dgray.reporting.figures.files import Origin, pictures
from dgray.reporting.figures.style import styled
from dgray.reporting.page import inline_svg, render
from dgray.reporting.presentation import metrics, objective

PAGE, TABLE = "compare.html", "compare.parquet"
METHOD = (
    "Each difference is the value of a run minus that of the reference, which is the first run; ± "
    "is one standard error. Paired: replicates with the same number share their random numbers. "
    "Joint: the standard errors of both means are combined in quadrature. Two-sided p-values of "
    "Student's t test are adjusted for all differences by the method of Benjamini and Hochberg; "
    f"significant: adjusted p < {LEVEL:g}."
)


@dataclass(frozen=True)
class RunsComparison:
    """Comparison of runs.

    Attributes:
        runs: the runs that were read, the reference first.
        differences: differences of all others to the reference.
        impossible: comparisons that are impossible, with reasons.
        identical: notes on values that are the same in both runs.
    """

    runs: tuple[ComparedRun, ...]
    differences: tuple[Difference, ...]
    impossible: tuple[str, ...]
    identical: tuple[str, ...] = ()

    @cached_property
    def fields(self) -> pd.DataFrame:
        """Fields and versions that differ, with their value in each run."""
        return differing(self.runs)

    @property
    def best(self) -> tuple[Difference, ...]:
        """Differences of the best models of each objective."""
        return tuple(d for d in self.differences if d.kind == "best models")

    @property
    def same(self) -> tuple[Difference, ...]:
        """Differences of models with the same setting, the most significant first."""
        same = [d for d in self.differences if d.kind == "same settings"]
        return tuple(sorted(same, key=lambda d: (pd.isna(d.p), d.adjusted_p, d.p)))

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Reasons why runs lack rows of their studies."""
        return tuple(f"{run.label}: {text}" for run in self.runs for text in run.incomplete)

    def frame(self) -> pd.DataFrame:
        """Return the differences as a table, one row each."""
        lines = []
        for d in self.differences:
            line = {name: value for name, value in vars(d).items() if name not in _ESTIMATES}
            for name in _ESTIMATES:
                number = getattr(d, name)
                column = "difference" if name == "estimate" else name
                line[column] = None if number is None else number.value
                line[f"{column}_se"] = None if number is None else number.error
            lines.append(line | {"significant": d.sign})
        columns = [*Difference.__dataclass_fields__, "significant"]
        return pd.DataFrame(lines) if lines else pd.DataFrame(columns=columns)

    def page(self) -> str:
        """Return the page, one file that loads nothing."""
        with styled():
            drawing = differences_figure(self.best or self.same)
            svg = ""
            if drawing is not None:
                origin = Origin(", ".join(run.label for run in self.runs))
                content = pictures(drawing, "differences", origin, ["svg"])["svg"]
                svg = inline_svg(content.decode(), "differences", drawing.heading)
        return render(
            "compare.html.j2",
            comparison=self,
            svg=svg,
            caption=drawing.caption if drawing else "",
            method=METHOD,
            titles={metric.name: metric.title for metric in metrics()},
            objectives={d.objective: objective(d.objective).title for d in self.differences},
        )

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write ``compare.html`` and ``compare.parquet``, and return their paths."""
        page, table = folder / PAGE, folder / TABLE
        content = self.page().encode("utf-8", "backslashreplace")
        write_atomically(table, lambda file: self.frame().to_parquet(file, index=False))
        write_atomically(page, lambda file: file.write(content))
        return page, table


_ESTIMATES = ("value", "reference_value", "estimate")


def compare_runs(places: Sequence[str | os.PathLike[str]]) -> RunsComparison:
    """Compare runs with the first of them.

    Args:
        places: folders or URIs; runs may be unfinished, and of different studies.

    Raises:
        RunRefusedError: fewer than two runs have rows.
        NotARunError: a folder holds no run.
        StoreError: a store cannot be read.
    """
    runs, empty = [], []
    for label, place in zip(_labels(places), places, strict=True):
        try:
            runs.append(_read(label, os.fspath(place)))
        except NoRowsError as error:
            empty.append(f"{label}: {error}")
    if len(runs) < 2:
        reason = f" ({'; '.join(empty)})" if empty else ""
        raise RunRefusedError(
            f"a comparison needs at least two runs with rows, but {len(runs)} of {len(places)} "
            f"has rows{reason}; name two or more runs"
        )
    pairs = [RunPair(runs[0], run) for run in runs[1:]]
    return RunsComparison(
        runs=tuple(runs),
        differences=tuple(adjusted([d for pair in pairs for d in pair.differences])),
        impossible=(*empty, *(text for pair in pairs for text in pair.impossible)),
        identical=tuple(
            f"{run.label}: {counted(pair.num_identical, 'value is', 'values are')} the same as in "
            f"{runs[0].label}, because both studies have these trials; not tested"
            for run, pair in zip(runs[1:], pairs, strict=True)
            if pair.num_identical
        ),
    )


def _read(label: str, place: str) -> ComparedRun:
    with reading(location(place)) as folder:
        contents = read_contents(folder)
        missing = gaps(folder, contents.table, contents.searches)
    return ComparedRun(label, place, contents, missing)


def _labels(places: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return a unique label for each place: its last part, or the whole if that is not unique."""
    texts = [os.fspath(place).rstrip("/") for place in places]
    lasts = [text.rpartition("/")[2] or text for text in texts]
    if len(set(lasts)) == len(lasts):
        return lasts
    if len(set(texts)) == len(texts):
        return texts
    return [f"{last} ({number})" for number, last in enumerate(lasts, 1)]
