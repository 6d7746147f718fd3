"""Samples to look at: data, base and guided models, at the hardest setting of the study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dgray.reporting.figures_epochs import hardest
from dgray.reporting.table import StudyTable
from dgray.reporting.theme import COLOURS, grid, name_of, new_figure
from dgray.reporting.views import CONTROLS, TRAINED, main_weight, number, roles, short

_SHOWN = 2000  # points per panel


@dataclass(frozen=True)
class _Picture:
    title: str
    objective: str
    points: np.ndarray  # (n, d)


def clouds(table: StudyTable) -> Figure | None:
    """A row per sampler, a column per model; two coordinates, or a histogram if d = 1."""
    if table.clouds.empty:
        return None
    role = roles(table)
    chosen = _chosen_trials(table, role.capacity)
    samplers = [s for s in ("ode", "sde", "churn") if s in set(_guided(table)["sampler"])]
    pictures = {s: _pictures(table, chosen, s) for s in samplers or ["ode"]}
    columns = max(len(row) for row in pictures.values())
    if columns == 0:
        return None
    figure = new_figure(len(pictures), columns, width=2.2, height=2.4)
    axes = grid(figure, len(pictures), columns)
    for row, (sampler, shown) in zip(axes, pictures.items(), strict=True):
        for panel, picture in zip(row, shown, strict=False):
            _draw(panel, picture, shown)
        for panel in row[len(shown) :]:
            panel.set_axis_off()
        row[0].set_ylabel(f"sampler {sampler}")
    figure.suptitle(_title(table, role.capacity, pictures), fontsize=11)
    return figure


def _guided(table: StudyTable) -> pd.DataFrame:
    return table.clouds[table.clouds["source"] == "guided"]


def _chosen_trials(table: StudyTable, capacity: str | None) -> dict[str, str]:
    """Objective -> trial: of trained ones the hardest, of controls the one that harms most."""
    have = table.cells[table.cells["trial"].isin(set(_guided(table)["trial"]))]
    chosen = {}
    is_trained = have["objective"].isin(TRAINED).any()
    for objective in TRAINED if is_trained else CONTROLS:
        cells = have[have["objective"] == objective]
        if objective in TRAINED:
            cells = hardest(cells, capacity)
        elif cells["path_kl"].notna().any():
            cells = cells.loc[[cells["path_kl"].idxmax()]]
        if len(cells):
            chosen[objective] = str(cells["trial"].iloc[0])
    return chosen


def _pictures(table: StudyTable, chosen: dict[str, str], sampler: str) -> list[_Picture]:
    found = []
    own = table.cells[table.cells["trial"].isin(chosen.values())]
    related = {*chosen.values(), *own["base_trial"]} or set(table.clouds["trial"])
    for source in ("data", "real", "base"):
        rows = table.clouds[table.clouds["source"] == source]
        rows = rows[rows["trial"].isin(related)]
        same = rows[rows["sampler"] == sampler]
        for _, row in (same if len(same) else rows).head(1).iterrows():
            title = {"real": "training points", "base": "base (unguided)"}.get(source, source)
            found.append(_Picture(title, "base" if source == "base" else "data", _points(row)))
    for objective, trial in chosen.items():
        rows = _guided(table)
        rows = rows[(rows["trial"] == trial) & (rows["sampler"] == sampler)]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        for weight, row in _at_weights(rows):
            title = f"{name_of(objective)}\n{weight}"
            found.append(_Picture(title, objective, _points(row)))
    return found


def _at_weights(rows: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """The constant weight nearest to 1, and the calibrated one."""
    found = []
    weight = main_weight(rows)
    if weight is not None:
        found.append((f"w = {weight:g}", rows[rows["guidance_weight"] == weight].iloc[0]))
    found += [
        ("calibrated", row)
        for _, row in rows[rows["is_calibrated"].astype(bool)].head(1).iterrows()
    ]
    return found


def _points(row: pd.Series) -> np.ndarray:
    return np.stack([np.asarray(point, float) for point in row["points"]])


def _draw(axes: Axes, picture: _Picture, shown: list[_Picture]) -> None:
    colour = COLOURS[picture.objective]
    low, high = _limits(shown)
    axes.set_title(picture.title, fontsize=9)
    axes.set_xlim(low[0], high[0])
    if picture.points.shape[1] == 1:
        reference = next((p for p in shown if p.title == "data"), None)
        bins = np.linspace(low[0], high[0], 61).tolist()
        axes.hist(picture.points[:, 0], bins, density=True, color=colour, alpha=0.75)
        if reference is not None and picture is not reference:
            axes.hist(reference.points[:, 0], bins, density=True, color="#222222", histtype="step")
        axes.set_yticks([])
        return
    points = picture.points[:_SHOWN]
    axes.scatter(
        points[:, 0], points[:, 1], s=3, color=colour, alpha=0.45, linewidths=0, rasterized=True
    )
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal", adjustable="box")
    axes.tick_params(labelbottom=False, labelleft=False, length=0)


def _limits(shown: list[_Picture]) -> tuple[np.ndarray, np.ndarray]:
    """The same frame for all: that of the data (or of all), so that an outlier hides nothing."""
    of_data = [p.points for p in shown if p.objective in ("data", "base")]
    points = np.concatenate(of_data or [p.points for p in shown])[:, :2]
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-9)
    return low - margin, high + margin


def _title(table: StudyTable, capacity: str | None, pictures: dict[str, list[_Picture]]) -> str:
    cells = hardest(table.cells[table.cells["objective"].isin(TRAINED)], capacity)
    parts = []
    if len(cells):
        axes = [a for a in table.axes if a != "fit.objective" and cells[a].nunique() == 1]
        parts = [f"{short(a)} {number(cells[a].iloc[0])}" for a in axes] + ["last checkpoint"]
    dimension = next(p for row in pictures.values() for p in row).points.shape[1]
    if dimension > 2:
        parts.append(f"the first two of {dimension} coordinates")
    return "Samples" + (f" ({', '.join(parts)})" if parts else "")
