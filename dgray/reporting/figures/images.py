"""Generated images beside the training images nearest to them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dgray.reporting.figures.cloud import points_of
from dgray.reporting.figures.theme import grid, hide_ticks, new_figure
from dgray.reporting.presentation import objective
from dgray.reporting.raster import COLUMNS, image_grid
from dgray.reporting.selection import (
    at_weight,
    hardest,
    main_weight,
    objectives,
    roles,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable

_PAIRS = 16  # guided images that are shown with their nearest training image


def nearest_training(table: StudyTable) -> Figure | None:
    """Draw guided images, each above the training image nearest to it; a panel per objective."""
    if table.clouds.empty or "nearest" not in set(table.clouds["source"]):
        return None
    pictures = _pairs(table)
    if not pictures:
        return None
    figure = new_figure(len(pictures), 1, width=6.5, height=2.0)
    axes = grid(figure, len(pictures), 1)
    for (panel,), (name, picture) in zip(axes, pictures.items(), strict=True):
        panel.imshow(picture, interpolation="nearest")
        panel.set_title(name, fontsize=9)
        hide_ticks(panel)
    figure.suptitle(
        "Guided images (upper rows) and the training images nearest to them", fontsize=11
    )
    return figure


def _pairs(table: StudyTable) -> dict[str, np.ndarray]:
    """Title -> picture, of the hardest trial of each objective at its last checkpoint."""
    models = hardest(trained(table.models), roles(table).capacity)
    pictures = {}
    for name in objectives(models):
        trial = models.loc[models["objective"] == name, "trial"].iloc[0]
        rows = table.clouds[table.clouds["trial"] == trial]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        weight = main_weight(rows[rows["source"] == "guided"])
        rows = at_weight(rows, weight)
        parts = [rows[rows["source"] == source].head(1) for source in ("guided", "nearest")]
        if all(len(part) for part in parts):
            label = f"{objective(name).title}, {weight_text(weight, 'calibrated')}"
            pictures[label] = _interleaved(*(part.iloc[0] for part in parts))
    return pictures


def _interleaved(guided: pd.Series, nearest: pd.Series) -> np.ndarray:
    """A row of guided images, a row of their neighbours, and so on."""
    pairs = [points_of(row)[:_PAIRS] for row in (guided, nearest)]
    lines = [
        points[start : start + COLUMNS]
        for start in range(0, len(pairs[0]), COLUMNS)
        for points in pairs
    ]
    shape = tuple(int(size) for size in guided["shape"])
    return image_grid(np.concatenate(lines), shape, count=2 * _PAIRS)
