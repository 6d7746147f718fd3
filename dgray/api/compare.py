"""Comparison of runs in Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dgray.api.html import console_html, recorded
from dgray.api.run import Run
from dgray.cli.compare_view import render_comparison
from dgray.files import output_folder
from dgray.reporting.compare.report import RunsComparison, compare_runs


@dataclass(frozen=True)
class Comparison:
    """Comparison of runs with the first of them; made by ``dgray.compare``."""

    _comparison: RunsComparison

    @property
    def differences(self) -> pd.DataFrame:
        """Differences to the reference, a row each: value, standard error, adjusted p-value."""
        return self._comparison.frame()

    @property
    def fields(self) -> pd.DataFrame:
        """Fields and versions that differ, with their value in each run."""
        return self._comparison.fields

    @property
    def impossible(self) -> tuple[str, ...]:
        """Comparisons that are impossible, with reasons."""
        return self._comparison.impossible

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Reasons why runs lack rows of their studies."""
        return self._comparison.incomplete

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``compare.html`` and ``compare.parquet`` to a folder; return the page's path."""
        return self._comparison.save(output_folder(Path(folder)))[0]

    def __str__(self) -> str:
        return recorded(render_comparison(self._comparison)).export_text()

    def __repr__(self) -> str:
        labels = ", ".join(run.label for run in self._comparison.runs)
        return f"<dgray.Comparison of {labels}: {len(self._comparison.differences)} differences>"

    def _repr_html_(self) -> str:
        return console_html(render_comparison(self._comparison))


def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> Comparison:
    """Compare runs with the first of them.

    Models of the same setting, and the best models of each objective, are compared: in pairs of
    replicates where the studies have the same seed, else with joint errors.

    Args:
        runs: runs, folders or URIs; they may be unfinished and of different studies.

    Raises:
        RunRefusedError: fewer than two runs have rows.
        NotARunError: a folder holds no run.
        StoreError: a store cannot be read.
    """
    if isinstance(runs, Run | str | os.PathLike):
        runs = [runs]
    places = [str(run.place) if isinstance(run, Run) else run for run in runs]
    return Comparison(compare_runs(places))
