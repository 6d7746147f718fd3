"""What only studies of images have: nearest training images, and the change by noise level."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures.cloud import points_of
from dgray.reporting.figures.epochs import hardest
from dgray.reporting.figures.image_grid import image_grid
from dgray.reporting.figures.theme import (
    COLOURS,
    grid,
    legend_below,
    name_of,
    new_figure,
)
from dgray.reporting.table import StudyTable
from dgray.reporting.views import (
    TRAINED,
    facets,
    last_epoch,
    main_weight,
    plain,
    roles,
    trained,
    with_series,
)

_PAIRS = 16  # guided images that are shown with their nearest training image
_COLUMNS = 8


def nearest_training(table: StudyTable) -> Figure | None:
    """Guided images, under each the training image nearest to it; a panel per objective."""
    if table.clouds.empty or "nearest" not in set(table.clouds["source"]):
        return None
    found = _pairs(table)
    if not found:
        return None
    figure = new_figure(len(found), 1, width=6.5, height=2.0)
    axes = grid(figure, len(found), 1)
    for (panel,), (title, picture) in zip(axes, found.items(), strict=True):
        panel.imshow(picture, interpolation="nearest")
        panel.set_title(title, fontsize=9)
        panel.grid(visible=False)
        panel.set_xticks([])
        panel.set_yticks([])
    figure.suptitle(
        "Guided images (upper rows) and the training images nearest to them", fontsize=11
    )
    return figure


def _pairs(table: StudyTable) -> dict[str, np.ndarray]:
    """Title -> picture, of the hardest trial of each objective at its last checkpoint."""
    cells = hardest(trained(table.cells), roles(table).capacity)
    found = {}
    for objective in TRAINED:
        own = cells[cells["objective"] == objective]
        if own.empty:
            continue
        rows = table.clouds[table.clouds["trial"] == own["trial"].iloc[0]]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        weight = main_weight(rows[rows["source"] == "guided"])
        at = rows["is_calibrated"] if weight is None else rows["guidance_weight"] == weight
        of = {name: rows[at & (rows["source"] == name)].head(1) for name in ("guided", "nearest")}
        if all(len(part) for part in of.values()):
            words = "calibrated" if weight is None else f"w = {weight:g}"
            found[f"{name_of(objective)}, {words}"] = _interleaved(
                *(part.iloc[0] for part in of.values())
            )
    return found


def _interleaved(guided: pd.Series, nearest: pd.Series) -> np.ndarray:
    """A row of guided images, a row of their neighbours, and so on."""
    pairs = [points_of(row)[:_PAIRS] for row in (guided, nearest)]
    lines = [
        points[start : start + _COLUMNS]
        for start in range(0, len(pairs[0]), _COLUMNS)
        for points in pairs
    ]
    shape = tuple(int(size) for size in guided["shape"])
    return image_grid(np.concatenate(lines), shape, count=2 * _PAIRS)


def path_change_by_noise(table: StudyTable) -> Figure | None:
    """Where guidance lowers the path KL and where it raises it, at the largest capacity."""
    role = roles(table)
    cells = last_epoch(plain(trained(table.cells)))
    cells = cells[cells["path_kl_change_bins"].notna() & cells["sigma_edges"].notna()]
    if cells.empty or table.cells["path_kl"].notna().any():
        return None
    if role.capacity:
        cells = cells[cells[role.capacity] == cells[role.capacity].max()]
    cells = with_series(cells, role.of_series)
    weight = main_weight(cells)
    panels = list(facets(cells, role.of_facets))
    figure = new_figure(1, len(panels), width=4.4, height=3.0)
    axes = grid(figure, 1, len(panels))
    for panel, (title, facet) in zip(axes[0], panels, strict=True):
        for _, cell in facet[facet["guidance_weight"] == weight].iterrows():
            _bins(panel, cell, f"{name_of(cell['series'])}, w = {weight:g}", "-")
        for _, cell in facet[facet["is_calibrated"].astype(bool)].iterrows():
            _bins(panel, cell, f"{name_of(cell['series'])}, calibrated", "--")
        panel.axhline(0, color="#888888", linewidth=1, label="base (unguided)")
        panel.set_xscale("log")
        panel.set_yscale("symlog", linthresh=0.1)
        panel.set_xlabel("noise level sigma")
        panel.set_ylabel("nats per bin")
        panel.set_title(title)
    legend_below(figure, axes)
    figure.suptitle("Change of the path KL by noise level, last checkpoint", fontsize=11)
    return figure


def _bins(axes: Axes, cell: pd.Series, label: str, linestyle: str) -> None:
    values = np.asarray(cell["path_kl_change_bins"], float)
    edges, spread = np.asarray(cell["sigma_edges"]), cell["path_kl_change_bins_se"]
    middle = np.sqrt(edges[:-1] * edges[1:])
    colour = COLOURS[cell["objective"]]
    axes.plot(middle, values, label=label, color=colour, linestyle=linestyle, marker=".")
    if spread is not None:
        axes.fill_between(
            middle, values - spread, values + spread, color=colour, alpha=0.15, linewidth=0
        )
