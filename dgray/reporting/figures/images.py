"""Generated images beside the training images nearest to them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgray.reporting.figures.cloud import points_of
from dgray.reporting.figures.style import points
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
    pairs = _pairs(table, shown)
    if not pairs:
        return None
    figure = new_figure(len(pairs), 1, width=6.5, height=2.0)
    axes = grid(figure, len(pairs), 1)
    for (panel,), (name, pair) in zip(axes, pairs.items(), strict=True):
        panel.imshow(_interleaved(*pair), interpolation="nearest")
        panel.set_title(name, fontsize=points(9))
        hide_ticks(panel)
    return drawing(
        figure,
        "Guided images (upper rows) and the training images nearest to them",
        shown.held,
        "Guided images of the last checkpoint (upper row of each pair) and below each the "
        "training image nearest to it in pixel space. Copies indicate a network that "
        "memorised its training data.",
        data=_distances(pairs),
    )


def _distances(pairs: dict[str, tuple[pd.Series, pd.Series]]) -> pd.DataFrame:
    """Euclidean distance of each guided image to its nearest training image."""
    parts = []
    for name, (guided, nearest) in pairs.items():
        gaps = points_of(guided)[:_PAIRS] - points_of(nearest)[:_PAIRS]
        distance = np.linalg.norm(gaps.reshape(len(gaps), -1), axis=1)
        parts.append(
            pd.DataFrame({"model": name, "image": range(len(gaps)), "distance": distance})
        )
    return pd.concat(parts, ignore_index=True)


def _pairs(table: StudyTable, shown: View) -> dict[str, tuple[pd.Series, pd.Series]]:
    """Title -> guided and nearest images, of each trial at its last checkpoint."""
    pairs = {}
    for line in shown.lines(shown.models, "trial"):
        rows = table.clouds[table.clouds["trial"] == line.models["trial"].iloc[0]]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        weight = main_weight(rows[rows["source"] == "guided"])
        rows = at_weight(rows, weight)
        parts = [rows[rows["source"] == source].head(1) for source in ("guided", "nearest")]
        if all(len(part) for part in parts):
            sampler = parts[0]["sampler"].iloc[0]
            label = f"{line.label}, {weight_text(weight, 'calibrated')}, sampler {sampler}"
            pairs[label] = (parts[0].iloc[0], parts[1].iloc[0])
    return dict(list(pairs.items())[:MAX_ROWS])


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
