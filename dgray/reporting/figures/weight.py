"""KL against the guidance weight at the last checkpoint; beside it the calibrated weight."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.theme import (
    COLOURS,
    band,
    legend_below,
    level,
    name_of,
    shade,
    value_scale,
    wrapped_grid,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.views import (
    TITLES,
    base_of,
    facets,
    last_epoch,
    lenses_of,
    number,
    plain,
    roles,
    short,
    trained,
    unit_of,
    with_series,
)


def kl_against_weight(table: StudyTable) -> Figure | None:
    """A row per data size, a column per lens; weight 0 is the base."""
    role = roles(table)
    cells = with_series(last_epoch(plain(trained(table.cells))), role.of_series)
    lenses = lenses_of(cells)
    if not lenses or cells["guidance_weight"].nunique() < 2:
        return None
    panels = list(facets(cells, role.of_facets))
    figure, axes = wrapped_grid(len(panels), len(lenses), width=3.5, height=2.6)
    for row, (title, facet) in zip(axes, panels, strict=True):
        base = base_of(table, facet)
        for panel, metric in zip(row, lenses, strict=True):
            _lines(panel, facet, metric, role.capacity, base)
            level(panel, base, metric, "base (unguided)", "base")
            value_scale(panel, facet[metric])
            panel.set_title("\n".join(filter(None, [TITLES[metric], title])))
            panel.set_xlabel("guidance weight")
            panel.set_ylabel(unit_of(metric))
    legend_below(figure, axes)
    figure.suptitle("Against guidance weight, last checkpoint", fontsize=11)
    return figure


def _lines(
    axes: Axes, cells: pd.DataFrame, metric: str, capacity: str | None, base: pd.Series | None
) -> None:
    sizes = sorted(cells[capacity].unique()) if capacity else [None]
    weights = sorted(cells["guidance_weight"].dropna().unique())
    aside = 1.17 * weights[-1]
    for column, (name, series) in enumerate(cells.groupby("series", sort=False)):
        colour = COLOURS[series["objective"].iloc[0]]
        for position, size in enumerate(sizes):
            lines = series[series[capacity] == size] if capacity else series
            lines = lines[lines[metric].notna()]
            tint = shade(colour, position, len(sizes))
            label = name_of(str(name))
            if capacity and len(sizes) > 1:
                label += f", {short(capacity)} {number(size)}"
            constant = lines[lines["guidance_weight"].notna()].sort_values("guidance_weight")
            curve = _from_base(constant, base, metric)
            band(axes, curve, "guidance_weight", metric, color=tint, label=label)
            offset = 0.018 * aside * (column - 0.5 + (position - 1) * 0.7)
            _calibrated(
                axes, lines[lines["is_calibrated"].astype(bool)], metric, aside + offset, tint
            )
    axes.set_xticks([0, *weights, aside], [*(f"{w:g}" for w in [0, *weights]), "calib."])
    axes.axvline((weights[-1] + aside) / 2, color="#CCCCCC", linewidth=0.8)
    axes.minorticks_off()


def _from_base(lines: pd.DataFrame, base: pd.Series | None, metric: str) -> pd.DataFrame:
    """The curve starts at weight 0, which is the base whatever the discriminator."""
    names = ["guidance_weight", metric, f"{metric}_se"]
    start = pd.DataFrame([base[names]] if base is not None else [], columns=names)
    return pd.concat([start, lines[names]]).astype(float)


def _calibrated(
    axes: Axes, cells: pd.DataFrame, metric: str, x: float, colour: tuple[float, float, float]
) -> None:
    for _, cell in cells.iterrows():
        error = cell[f"{metric}_se"]
        axes.errorbar(
            x,
            cell[metric],
            yerr=error if np.isfinite(error) else None,
            fmt="D",
            color=colour,
            markersize=4.5,
        )
