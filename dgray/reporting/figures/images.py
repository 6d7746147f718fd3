"""Generated images beside the training images nearest to them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgray.reporting.figures.cloud import points_of
from dgray.reporting.figures.theme import Drawing, drawing, grid, hide_ticks, new_figure
from dgray.reporting.figures.view import MAX_ROWS, View, view
from dgray.reporting.raster import COLUMNS, image_grid
from dgray.reporting.selection import at_weight, main_weight, trained, weight_text
from dgray.reporting.table import StudyTable

_PAIRS = 16  # guided images that are shown with their nearest training image


def nearest_training(table: StudyTable) -> Drawing | None:
    """Draw guided images, each above the training image nearest to it; a panel per series."""
    if table.clouds.empty or "nearest" not in set(table.clouds["source"]):
        return None
    with_nearest = set(table.clouds.loc[table.clouds["source"] == "nearest", "trial"])
    models = trained(table.models)
    models = models[models["trial"].isin(with_nearest)]
    if models.empty:
        return None
    shown = view(table, models)
    pictures = _pairs(table, shown)
    if not pictures:
        return None
    figure = new_figure(len(pictures), 1, width=6.5, height=2.0)
    axes = grid(figure, len(pictures), 1)
    for (panel,), (name, picture) in zip(axes, pictures.items(), strict=True):
        panel.imshow(picture, interpolation="nearest")
        panel.set_title(name, fontsize=9)
        hide_ticks(panel)
    return drawing(
        figure,
        "Guided images (upper rows) and the training images nearest to them",
        shown.held,
        "Guided images of the last checkpoint (upper row of each pair) and below each the "
        "training image nearest to it in pixel space. Copies indicate a discriminator that "
        "memorised its training data.",
    )


def _pairs(table: StudyTable, shown: View) -> dict[str, np.ndarray]:
    """Title -> picture, of each trial at its last checkpoint."""
    pictures = {}
    for line in shown.lines(shown.models):
        rows = table.clouds[table.clouds["trial"] == line.models["trial"].iloc[0]]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        weight = main_weight(rows[rows["source"] == "guided"])
        rows = at_weight(rows, weight)
        parts = [rows[rows["source"] == source].head(1) for source in ("guided", "nearest")]
        if all(len(part) for part in parts):
            sampler = parts[0]["sampler"].iloc[0]
            label = f"{line.label}, {weight_text(weight, 'calibrated')}, sampler {sampler}"
            pictures[label] = _interleaved(*(part.iloc[0] for part in parts))
    return dict(list(pictures.items())[:MAX_ROWS])


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
