"""Samples to look at: data, base and guided models, at the hardest setting of the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from dgray.reporting.figures.epochs import hardest
from dgray.reporting.figures.image_grid import image_grid
from dgray.reporting.figures.theme import COLOURS, grid, name_of, new_figure
from dgray.reporting.table import StudyTable
from dgray.reporting.views import CONTROLS, TRAINED, main_weight, number, roles, short

_SHOWN = 2000  # points per panel
_GRID = 90  # cells of a density, per axis


@dataclass(frozen=True)
class Cloud:
    """Samples and what they are of."""

    title: str
    objective: str
    points: np.ndarray  # (n, d)
    shape: tuple[int, ...] | None = None  # (C, H, W) of images


def clouds(table: StudyTable) -> Figure | None:
    """A row per sampler, a column per model; two coordinates, or a histogram if d = 1."""
    rows = clouds_by_sampler(table)
    return draw_rows(rows, _draw, f"Samples{_setting(table, rows)}") if rows else None


def densities(table: StudyTable) -> Figure | None:
    """The same as kernel density estimates on one colour scale, if d >= 2."""
    rows = {
        sampler: [cloud for cloud in shown if cloud.title != "training points"]
        for sampler, shown in clouds_by_sampler(table).items()
    }
    everything = [cloud for shown in rows.values() for cloud in shown]
    is_drawn = everything and everything[0].shape is None
    if not is_drawn or everything[0].points.shape[1] < 2:
        return None
    title = f"Densities of the samples{_setting(table, rows)}"
    return draw_rows(rows, _draw_density, title)


def clouds_by_sampler(table: StudyTable) -> dict[str, list[Cloud]]:
    """Sampler -> data, training points, base and guided models; empty without samples."""
    if table.clouds.empty:
        return {}
    chosen = _chosen_trials(table, roles(table).capacity)
    samplers = [s for s in ("ode", "sde", "churn") if s in set(_guided(table)["sampler"])]
    found = {s: _pictures(table, chosen, s) for s in samplers or ["ode"]}
    return {sampler: shown for sampler, shown in found.items() if shown}


def draw_rows(
    rows: dict[str, list[Cloud]], draw: Callable[[Axes, Cloud, list[Cloud]], None], title: str
) -> Figure:
    """A panel per cloud, a row per sampler."""
    columns = max(len(shown) for shown in rows.values())
    figure = new_figure(len(rows), columns, width=2.2, height=2.4)
    axes = grid(figure, len(rows), columns)
    for row, (sampler, shown) in zip(axes, rows.items(), strict=True):
        for panel, cloud in zip(row, shown, strict=False):
            draw(panel, cloud, shown)
        for panel in row[len(shown) :]:
            panel.set_axis_off()
        row[0].set_ylabel(f"sampler {sampler}")
    figure.suptitle(title, fontsize=11)
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


def _pictures(table: StudyTable, chosen: dict[str, str], sampler: str) -> list[Cloud]:
    found = []
    own = table.cells[table.cells["trial"].isin(chosen.values())]
    related = {*chosen.values(), *own["base_trial"]} or set(table.clouds["trial"])
    for source in ("data", "real", "base"):
        rows = table.clouds[table.clouds["source"] == source]
        rows = rows[rows["trial"].isin(related)]
        same = rows[rows["sampler"] == sampler]
        for _, row in (same if len(same) else rows).head(1).iterrows():
            title = {"real": "training points", "base": "base (unguided)"}.get(source, source)
            role = "base" if source == "base" else "data"
            found.append(Cloud(title, role, points_of(row), _shape(row)))
    for objective, trial in chosen.items():
        rows = _guided(table)
        rows = rows[(rows["trial"] == trial) & (rows["sampler"] == sampler)]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        for weight, row in _at_weights(rows):
            title = f"{name_of(objective)}\n{weight}"
            found.append(Cloud(title, objective, points_of(row), _shape(row)))
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


def points_of(row: pd.Series) -> np.ndarray:
    """The samples of a row of clouds, shape (n, d)."""
    return np.stack([np.asarray(point, float) for point in row["points"]])


def _shape(row: pd.Series) -> tuple[int, ...] | None:
    """Of runs before there were images too."""
    shape = row.get("shape")
    return None if shape is None else tuple(int(size) for size in shape)


def _draw(axes: Axes, picture: Cloud, shown: list[Cloud]) -> None:
    if picture.shape is not None:
        axes.set_title(picture.title, fontsize=9)
        axes.imshow(image_grid(picture.points, picture.shape), interpolation="nearest")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        return
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


def _draw_density(axes: Axes, cloud: Cloud, shown: list[Cloud]) -> None:
    """Gaussian kernels a third of Scott's width, so that modes of the data stay apart."""
    low, high = _limits(shown)
    x, y = (np.linspace(low[i], high[i], _GRID) for i in (0, 1))
    at = np.stack([g.ravel() for g in np.meshgrid(x, y)])

    def density(points: np.ndarray) -> np.ndarray:
        kernels = gaussian_kde(points[:, :2].T, lambda kde: kde.scotts_factor() / 3)
        return np.asarray(kernels(at))

    peak = float(density(next((c for c in shown if c.title == "data"), cloud).points).max())
    axes.set_title(cloud.title, fontsize=9)
    axes.imshow(
        density(cloud.points).reshape(_GRID, _GRID),
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        cmap="magma_r",
        norm=PowerNorm(0.5, vmin=0, vmax=peak),
        interpolation="bilinear",
    )
    axes.grid(visible=False)
    axes.tick_params(labelbottom=False, labelleft=False, length=0)


def _limits(shown: list[Cloud]) -> tuple[np.ndarray, np.ndarray]:
    """The same frame for all: that of the data (or of all), so that an outlier hides nothing."""
    of_data = [p.points for p in shown if p.objective in ("data", "base")]
    points = np.concatenate(of_data or [p.points for p in shown])[:, :2]
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-9)
    return low - margin, high + margin


def _setting(table: StudyTable, rows: dict[str, list[Cloud]]) -> str:
    """The trials shown, in brackets."""
    cells = table.cells[table.cells["objective"].isin(TRAINED)]
    cells = hardest(cells, roles(table).capacity)
    parts = []
    if len(cells):
        axes = [a for a in table.axes if a != "fit.objective" and cells[a].nunique() == 1]
        parts = [f"{short(a)} {number(cells[a].iloc[0])}" for a in axes] + ["last checkpoint"]
    first = next(c for shown in rows.values() for c in shown)
    dimension = first.points.shape[1]
    if first.shape is not None:
        parts.append("the same seeds in every model")
    elif dimension > 2:
        parts.append(f"the first two of {dimension} coordinates")
    return f" ({', '.join(parts)})" if parts else ""
