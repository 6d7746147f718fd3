"""KL against epochs under the three lenses, and the headline: the same for the hardest setting."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    COLOURS,
    band,
    legend_below,
    level,
    name_of,
    number_ticks,
    shade,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.views import (
    LENSES,
    NUM_REAL,
    TITLES,
    at_weight,
    base_of,
    control_of,
    facets,
    lenses_of,
    main_weight,
    number,
    plain,
    roles,
    short,
    trained,
    unit_of,
    with_series,
)


def kl_against_epochs(table: StudyTable) -> Figure | None:
    """A row per data size, a column per lens, a line per objective and capacity."""
    role = roles(table)
    cells = plain(table.cells)
    weight = main_weight(cells)
    cells = with_series(trained(at_weight(cells, weight)), role.of_series)
    lenses = lenses_of(cells)
    if not lenses or cells["epoch"].nunique() < 2:
        return None
    panels = list(facets(cells, role.of_facets))
    figure, axes = wrapped_grid(len(panels), len(lenses), width=3.5, height=2.6)
    for row, (title, facet) in zip(axes, panels, strict=True):
        for panel, metric in zip(row, lenses, strict=True):
            _curves(panel, facet, metric, role.capacity)
            _levels(panel, table, facet, metric, weight)
            _finish(panel, facet, metric, title)
    legend_below(figure, axes)
    figure.suptitle(f"{_subject(lenses)} against epochs, {_at(weight)}", fontsize=11)
    return figure


def headline(table: StudyTable) -> Figure | None:
    """Overfitting in one picture: the largest capacity, the fewest real samples."""
    role = roles(table)
    cells = hardest(plain(trained(table.cells)), role.capacity)
    weight = main_weight(cells)
    constant = with_series(at_weight(cells, weight), role.of_series)
    lenses = lenses_of(constant)
    if not lenses or constant["epoch"].nunique() < 2:
        return None
    figure, axes = wrapped_grid(1, len(lenses), width=3.5, height=3.1)
    calibrated = with_series(cells[cells["is_calibrated"].astype(bool)], role.of_series)
    for panel, metric in zip(axes[0], lenses, strict=True):
        _curves(panel, constant, metric, None, suffix=f", {_at(weight)}")
        if weight is not None:
            _dashed(panel, calibrated, metric)
        _levels(panel, table, constant, metric, weight)
        _finish(panel, pd.concat([constant, calibrated]), metric, "")
    legend_below(figure, axes)
    fixed = [a for a in (role.capacity, *role.of_facets) if a]
    where = ", ".join(f"{short(a)} {number(constant[a].iloc[0])}" for a in fixed)
    figure.suptitle(
        f"{_subject(lenses)} against epochs" + (f" ({where})" if where else ""), fontsize=11
    )
    return figure


def hardest(cells: pd.DataFrame, capacity: str | None) -> pd.DataFrame:
    """The largest capacity and the fewest real samples; of other axes the first value."""
    if capacity and not cells.empty:
        cells = cells[cells[capacity] == cells[capacity].max()]
    if NUM_REAL in cells and cells[NUM_REAL].notna().any():
        cells = cells[cells[NUM_REAL] == cells[NUM_REAL].min()]
    return cells


def _subject(lenses: list[str]) -> str:
    return "KL divergence to the data" if lenses[0] in LENSES else "Divergence and samples"


def _at(weight: float | None) -> str:
    return "calibrated weight" if weight is None else f"w = {weight:g}"


def _curves(
    axes: Axes, cells: pd.DataFrame, metric: str, capacity: str | None, suffix: str = ""
) -> None:
    sizes = sorted(cells[capacity].unique()) if capacity else [None]
    for name, series in cells.groupby("series", sort=False):
        colour = COLOURS[series["objective"].iloc[0]]
        for position, size in enumerate(sizes):
            lines = series[series[capacity] == size] if capacity else series
            lines = lines[lines[metric].notna()].sort_values("epoch")
            label = name_of(str(name)) + suffix
            if capacity and len(sizes) > 1:
                label += f", {short(capacity)} {number(size)}"
            band(
                axes,
                lines,
                "epoch",
                metric,
                color=shade(colour, position, len(sizes)),
                label=label,
            )


def _dashed(axes: Axes, cells: pd.DataFrame, metric: str) -> None:
    for name, lines in cells.groupby("series", sort=False):
        known = lines[lines[metric].notna()].sort_values("epoch")
        colour = COLOURS[known["objective"].iloc[0]] if len(known) else "none"
        label = f"{name_of(str(name))}, calibrated"
        band(axes, known, "epoch", metric, color=colour, label=label, linestyle="--", marker="D")


def _levels(
    axes: Axes, table: StudyTable, cells: pd.DataFrame, metric: str, weight: float | None
) -> None:
    level(axes, base_of(table, cells), metric, "base (unguided)", "base")
    oracle = at_weight(control_of(table, cells, "oracle"), weight)
    level(axes, oracle.iloc[0] if len(oracle) else None, metric, "oracle", "oracle")
    floor = cells["kl_sde_floor"].mean()
    if metric == "kl_sde" and not pd.isna(floor):
        axes.axhline(floor, color="#AAAAAA", linewidth=1, label="floor of the estimate (SDE)")


def _finish(axes: Axes, cells: pd.DataFrame, metric: str, title: str) -> None:
    value_scale(axes, cells[metric])
    number_ticks(axes, sorted(cells["epoch"].unique()), log=True)
    axes.set_title("\n".join(filter(None, [TITLES[metric], title])))
    axes.set_xlabel("epochs")
    axes.set_ylabel(unit_of(metric))
