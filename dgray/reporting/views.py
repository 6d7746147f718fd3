"""Which cells a picture or sentence is about: roles of the axes, series, facets, main weight.

Knows the merged cells of ``StudyTable`` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from dgray.reporting.table import StudyTable

TRAINED = ("cross_entropy", "kl", "mixed")
CONTROLS = ("oracle", "oscillating")
LENSES = {
    "path_kl": "path KL",
    "kl": "KL of the probability-flow ODE",
    "kl_sde": "KL of the SDE sampler",
}
OF_IMAGES = {  # what stands in their place where no density is known
    "path_kl_change": "change of path KL",
    "kl_change": "change of KL (ODE)",
    "fid": "FID",
    "fd": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "memorisation": "memorisation",
}
TITLES = LENSES | OF_IMAGES
NUM_REAL = "data.num_real"
_CAPACITIES = ("discriminator.width", "discriminator.depth")


@dataclass(frozen=True)
class Roles:
    """What the training axes of a study are to its figures."""

    capacity: str | None  # the vertical axis of the map
    of_series: tuple[str, ...]  # axes of one objective alone: part of its name
    of_facets: tuple[str, ...]  # all others: one picture row each


def short(path: str) -> str:
    """``discriminator.width`` -> ``width``."""
    return path.rsplit(".", 1)[-1]


def number(value: object) -> str:
    """An axis value or weight as one would write it by hand."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if float(value).is_integer() else f"{value:g}"
    return str(value)


def lenses_of(cells: pd.DataFrame) -> list[str]:
    """The lenses that a study has: KLs, or of images their changes and scores of samples."""
    found = [metric for metric in LENSES if cells[metric].notna().any()]
    return found or [metric for metric in OF_IMAGES if cells[metric].notna().any()]


def unit_of(metric: str) -> str:
    """Of a lens: divergences are in nats, other scores have no unit."""
    return "nats" if "kl" in metric else ""


def roles(table: StudyTable) -> Roles:
    """Roles of the axes; ``fit.objective`` is always a series."""
    cells = table.cells
    trained = cells[cells["objective"].isin(TRAINED)]
    axes = [a for a in table.axes if a != "fit.objective" and trained[a].notna().any()]
    shared = [a for a in axes if trained[a].notna().all() and trained[a].nunique() > 1]
    numeric = [a for a in shared if pd.api.types.is_numeric_dtype(trained[a]) and a != NUM_REAL]
    named = [a for a in _CAPACITIES if a in numeric]
    capacity = next(iter(named or numeric), None)
    return Roles(
        capacity=capacity,
        of_series=tuple(a for a in axes if not trained[a].notna().all()),
        of_facets=tuple(a for a in shared if a != capacity),
    )


def plain(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells guided everywhere and in both stages; without any, those of the first setting."""
    guided = cells[cells["objective"] != "base"]
    whole = guided["interval_low"].isna() & (guided["guided_stage"] == "both")
    if whole.any() or guided.empty:
        return guided[whole]
    first = guided.iloc[0]
    return guided[
        (guided["interval_low"].isna() | (guided["interval_low"] == first["interval_low"]))
        & (guided["interval_high"].isna() | (guided["interval_high"] == first["interval_high"]))
        & (guided["guided_stage"] == first["guided_stage"])
    ]


def main_weight(cells: pd.DataFrame) -> float | None:
    """The constant weight nearest to 1, the exact correction; None if all are calibrated."""
    weights = cells.loc[~cells["is_calibrated"].astype(bool), "guidance_weight"].dropna()
    return float(min(weights, key=lambda w: abs(w - 1))) if len(weights) else None


def at_weight(cells: pd.DataFrame, weight: float | None) -> pd.DataFrame:
    """Cells at a constant weight; at the calibrated one for None."""
    calibrated = cells["is_calibrated"].astype(bool)
    return cells[calibrated] if weight is None else cells[cells["guidance_weight"] == weight]


def trained(cells: pd.DataFrame, objective: str | None = None) -> pd.DataFrame:
    """Cells of trained discriminators, or of one objective."""
    return cells[
        cells["objective"].isin(TRAINED) if objective is None else cells["objective"] == objective
    ]


def last_epoch(cells: pd.DataFrame) -> pd.DataFrame:
    """The last checkpoint of every trial."""
    return cells[cells["epoch"] == cells.groupby("trial")["epoch"].transform("max")]


def with_series(cells: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """Adds ``series``: the objective and the axes that only it has."""
    names = []
    for _, cell in cells.iterrows():
        own = [f"{short(a)} {number(cell[a])}" for a in axes if not pd.isna(cell[a])]
        names.append(", ".join([cell["objective"], *own]))
    return cells.assign(series=names)


def facets(
    cells: pd.DataFrame, axes: tuple[str, ...], limit: int = 6
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and cells of each combination of ``axes``; the first ``limit`` of them."""
    if not axes:
        yield "", cells
        return
    groups = list(cells.groupby(list(axes), sort=True))
    for values, group in groups[:limit]:
        title = ", ".join(f"{short(a)} = {number(v)}" for a, v in zip(axes, values, strict=True))
        more = f" (first {limit} of {len(groups)})" if len(groups) > limit else ""
        yield title + more, group


def base_of(table: StudyTable, cells: pd.DataFrame) -> pd.Series | None:
    """The unguided model these cells are compared with, when it is one and the same."""
    names = cells["base_trial"].dropna().unique()
    bases = table.cells[table.cells["trial"].isin(names)]
    return bases.iloc[0] if len(bases) else None


def control_of(table: StudyTable, cells: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Cells of a control on the same data and base as these."""
    same = table.cells["base_trial"].isin(cells["base_trial"].dropna().unique())
    return plain(table.cells[(table.cells["objective"] == objective) & same])


def words(cell: pd.Series, axes: tuple[str, ...]) -> str:
    """The cell in words: its axes, epoch and weight."""
    parts = [
        f"{short(a)} {number(cell[a])}"
        for a in axes
        if a != "fit.objective" and not pd.isna(cell[a])
    ]
    if cell["objective"] in TRAINED:
        parts.append(f"epoch {number(cell['epoch'])}")
    if cell["objective"] != "base":
        parts.append("calibrated" if cell["is_calibrated"] else f"w = {cell['guidance_weight']:g}")
    if not pd.isna(cell["interval_low"]):
        parts.append(f"sigma in [{cell['interval_low']:g}, {cell['interval_high']:g}]")
    if cell["guided_stage"] != "both":
        parts.append("predictor only")
    return ", ".join(parts)
