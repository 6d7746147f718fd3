"""The summary table: base, per objective its best and its worst setting, and oracle.

The best setting is chosen on the validation split (``validation_change``) and reported on the
held-out one, so that choosing does not flatter the reported number. The worst is the largest
held-out path KL at the main weight: a statement about harm, not a choice anyone would make. Knows
``StudyTable`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgray.reporting.table import StudyTable
from dgray.reporting.views import TRAINED, at_weight, main_weight, number, plain, trained, words

_SMALL, _TINY = 5e-4, 5e-7  # errors below are written with one digit; in powers of ten
COLUMNS = {  # columns of the summary and what heads them
    "path_kl": "path KL",
    "path_kl_change": "path KL change",
    "kl": "KL (ODE)",
    "kl_sde": "KL (SDE)",
    "kl_change": "KL (ODE) change",
    "bits_per_dim": "bits/dim",
    "fid": "FID",
    "fd": "FD",
    "precision": "precision",
    "recall": "recall",
    "memorisation": "memorisation",
}
CHOSEN_BY = ("validation_change", "path_kl", "kl")


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error (NaN when unknown)."""

    value: float
    error: float

    def __str__(self) -> str:
        """Down to the second digit of the error, the first of a small one: 2.31 ± 0.12."""
        return self._text().replace("-", "\N{MINUS SIGN}")

    def _text(self) -> str:
        if not np.isfinite(self.value):
            return "diverged" if self.value > 0 else "not a number"
        if not np.isfinite(self.error):
            return f"{self.value:.3g}"
        if self.error < _TINY:
            return f"{self.value:.3g} ± {self.error:.1g}"
        first = -int(np.floor(np.log10(self.error)))  # decimal of the error's first digit
        digits = max(first + (self.error >= _SMALL), 0)
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"

    @property
    def in_errors(self) -> float:
        """The value in units of its standard error."""
        return self.value / self.error if self.error > 0 else float("nan")


@dataclass(frozen=True)
class SummaryRow:
    """One line of the summary; ``estimates`` has those of ``COLUMNS`` that the study has."""

    name: str
    setting: str
    objective: str
    estimates: Mapping[str, Estimate]


def estimate(cell: pd.Series, metric: str) -> Estimate | None:
    """A metric of a cell, or None if it is missing."""
    if metric not in cell or pd.isna(cell[metric]):
        return None
    return Estimate(float(cell[metric]), float(cell.get(f"{metric}_se", np.nan)))


def best(table: StudyTable, objective: str) -> tuple[pd.Series, str] | None:
    """The setting of an objective that is best on validation, and the column that chose it."""
    cells = trained(table.cells, objective)
    for column in CHOSEN_BY:
        if cells[column].notna().any():
            return cells.loc[cells[column].idxmin()], column
    return None


def worst(table: StudyTable, objective: str, metric: str = "path_kl") -> pd.Series | None:
    """The cell of an objective whose change (or else value) is largest at the main weight."""
    cells = plain(table.cells)
    cells = trained(at_weight(cells, main_weight(cells)), objective)
    change = f"{metric}_change"
    column = change if change in cells and cells[change].notna().any() else metric
    return cells.loc[cells[column].idxmax()] if cells[column].notna().any() else None


def selection_rule(table: StudyTable) -> str:
    """How the best settings were chosen, in words."""
    chosen_by = {found[1] for name in TRAINED if (found := best(table, name))}
    if not chosen_by:
        return ""
    if chosen_by == {"validation_change"}:
        return (
            "The best setting of an objective is the one with the lowest denoising error on the "
            "validation split (column validation_change); its KL is reported on held-out data, "
            "which took no part in the choice."
        )
    return (
        f"This study has no validation change, so the best settings were chosen by held-out "
        f"{' and '.join(sorted(chosen_by))} itself: these numbers are optimistic."
    )


def summary(table: StudyTable) -> tuple[SummaryRow, ...]:
    """Base, best and worst of every objective that the study has, oracle."""
    rows = [_row("base (unguided)", "", base) for base in _first(table.cells, "base")]
    for objective in TRAINED:
        if found := best(table, objective):
            rows.append(_row(f"best {objective}", words(found[0], table.axes), found[0]))
    for objective in TRAINED:
        cell = worst(table, objective)
        if cell is not None:
            rows.append(_row(f"{objective} at its worst", words(cell, table.axes), cell))
    controls = plain(table.cells)
    exact = at_weight(controls, main_weight(controls))
    false = exact[(exact["objective"] == "oscillating") & exact["path_kl"].notna()]
    if len(false):
        cell = false.loc[false["path_kl"].idxmax()]
        rows.append(_row("oscillating at its worst", words(cell, table.axes), cell))
    rows += [
        _row("oracle (exact log-ratio)", _weight(cell), cell) for cell in _first(exact, "oracle")
    ]
    return tuple(rows)


def _first(cells: pd.DataFrame, objective: str) -> list[pd.Series]:
    return [cell for _, cell in cells[cells["objective"] == objective].head(1).iterrows()]


def _weight(cell: pd.Series) -> str:
    weight = cell["guidance_weight"]
    return "calibrated" if cell["is_calibrated"] else f"w = {number(weight)}"


def _row(name: str, setting: str, cell: pd.Series) -> SummaryRow:
    found = {column: estimate(cell, column) for column in COLUMNS}
    known = {column: value for column, value in found.items() if value is not None}
    if "kl" in known:
        known.pop("kl_change", None)  # the difference of two lines of the table
    return SummaryRow(name, setting, cell["objective"], known)
