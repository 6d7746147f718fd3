"""Samples of the data, the base and guided models, where overfitting is strongest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from dgray.reporting.figures.theme import grid, hide_ticks, new_figure
from dgray.reporting.presentation import (
    BASE,
    DATA_COLOUR,
    PATH_KL,
    objective,
    sampler_preference,
)
from dgray.reporting.raster import image_grid
from dgray.reporting.selection import (
    OBJECTIVE,
    at_weight,
    calibrated,
    hardest,
    main_weight,
    number,
    objectives,
    of_controls,
    roles,
    short,
    trained,
    weight_text,
)
from dgray.reporting.table import StudyTable

_SHOWN = 2000  # points per panel
_GRID = 90  # cells of a density, per axis
_DATA, _TRAINING = "data", "training points"


@dataclass(frozen=True)
class SampleCloud:
    """Samples of one source.

    Attributes:
        points: shape (n, d).
        is_guided: False for the data and the base, whose range is the frame of all.
        shape: (C, H, W) of images.
    """

    title: str
    colour: str
    points: np.ndarray
    is_guided: bool = False
    shape: tuple[int, ...] | None = None


def clouds(table: StudyTable) -> Figure | None:
    """Draw a row per sampler, a column per model: two coordinates, or a histogram if d = 1."""
    rows = clouds_by_sampler(table)
    return draw_rows(rows, _draw, f"Samples{_setting(table, rows)}") if rows else None


def densities(table: StudyTable) -> Figure | None:
    """Draw kernel density estimates of the samples on one colour scale, if d >= 2."""
    rows = {
        sampler: [cloud for cloud in shown if cloud.title != _TRAINING]
        for sampler, shown in clouds_by_sampler(table).items()
    }
    everything = [cloud for shown in rows.values() for cloud in shown]
    is_drawn = everything and everything[0].shape is None
    if not is_drawn or everything[0].points.shape[1] < 2:
        return None
    return draw_rows(rows, _draw_density, f"Densities of the samples{_setting(table, rows)}")


def clouds_by_sampler(table: StudyTable) -> dict[str, list[SampleCloud]]:
    """Return data, training points, base and guided models per sampler, if there are samples."""
    if table.clouds.empty:
        return {}
    trials = _hardest_trials(table)
    samplers = sorted(_guided(table)["sampler"].unique(), key=sampler_preference)
    by_sampler = {s: _clouds(table, trials, s) for s in samplers or ["ode"]}
    return {sampler: shown for sampler, shown in by_sampler.items() if shown}


def draw_rows(
    rows: dict[str, list[SampleCloud]],
    draw: Callable[[Axes, SampleCloud, list[SampleCloud]], None],
    title: str,
) -> Figure:
    """Draw a panel per cloud, a row per sampler."""
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


def _hardest_trials(table: StudyTable) -> dict[str, str]:
    """Objective -> trial: of trained ones the hardest, of controls the most harmful one."""
    models = table.models[table.models["trial"].isin(set(_guided(table)["trial"]))]
    capacity = roles(table).capacity
    trials = {
        name: str(hardest(trained(models, name), capacity)["trial"].iloc[0])
        for name in objectives(models)
    }
    if trials:
        return trials
    for has_options in (False, True):
        for name, group in of_controls(models, has_options=has_options).groupby("objective"):
            is_known = group[PATH_KL].notna().any()
            model = group.loc[group[PATH_KL].idxmax()] if is_known else group.iloc[0]
            trials[str(name)] = str(model["trial"])
    return trials


def _clouds(table: StudyTable, trials: dict[str, str], sampler: str) -> list[SampleCloud]:
    shown = []
    own = table.models[table.models["trial"].isin(trials.values())]
    related = {*trials.values(), *own["base_trial"]} or set(table.clouds["trial"])
    sources = {_DATA: (_DATA, DATA_COLOUR), "real": (_TRAINING, DATA_COLOUR)}
    for source, (title, colour) in (sources | {BASE.name: (BASE.title, BASE.colour)}).items():
        rows = table.clouds[table.clouds["source"] == source]
        rows = rows[rows["trial"].isin(related)]
        same = rows[rows["sampler"] == sampler]
        for _, row in (same if len(same) else rows).head(1).iterrows():
            shown.append(SampleCloud(title, colour, points_of(row), shape=_shape(row)))
    for name, trial in trials.items():
        rows = _guided(table)
        rows = rows[(rows["trial"] == trial) & (rows["sampler"] == sampler)]
        rows = rows[rows["epoch"] == rows["epoch"].max()]
        spec = objective(name)
        for label, row in _at_weights(rows):
            title = f"{spec.title}\n{label}"
            shown.append(SampleCloud(title, spec.colour, points_of(row), True, _shape(row)))
    return shown


def _at_weights(rows: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """The constant weight nearest to 1, and the calibrated one."""
    weight = main_weight(rows)
    constant = [] if weight is None else [(weight_text(weight), at_weight(rows, weight).iloc[0])]
    return constant + [("calibrated", row) for _, row in calibrated(rows).head(1).iterrows()]


def points_of(row: pd.Series) -> np.ndarray:
    """Return the samples of a row of clouds, shape (n, d)."""
    return np.stack([np.asarray(point, float) for point in row["points"]])


def _shape(row: pd.Series) -> tuple[int, ...] | None:
    shape = row.get("shape")  # runs of older versions lack the column
    return None if shape is None else tuple(int(size) for size in shape)


def _draw(axes: Axes, cloud: SampleCloud, shown: list[SampleCloud]) -> None:
    axes.set_title(cloud.title, fontsize=9)
    if cloud.shape is not None:
        axes.imshow(image_grid(cloud.points, cloud.shape), interpolation="nearest")
        hide_ticks(axes)
        return
    low, high = _limits(shown)
    axes.set_xlim(low[0], high[0])
    if cloud.points.shape[1] == 1:
        reference = next((c for c in shown if c.title == _DATA), cloud)
        bins = np.linspace(low[0], high[0], 61).tolist()
        axes.hist(cloud.points[:, 0], bins, density=True, color=cloud.colour, alpha=0.75)
        if cloud is not reference:
            axes.hist(
                reference.points[:, 0], bins, density=True, color=DATA_COLOUR, histtype="step"
            )
        axes.set_yticks([])
        return
    x, y = cloud.points[:_SHOWN, :2].T
    axes.scatter(x, y, s=3, color=cloud.colour, alpha=0.45, linewidths=0, rasterized=True)
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal", adjustable="box")
    axes.tick_params(labelbottom=False, labelleft=False, length=0)


def _draw_density(axes: Axes, cloud: SampleCloud, shown: list[SampleCloud]) -> None:
    """Draw a Gaussian kernel density of a third of Scott's width, which keeps modes apart."""
    low, high = _limits(shown)
    x, y = (np.linspace(low[i], high[i], _GRID) for i in (0, 1))
    places = np.stack([g.ravel() for g in np.meshgrid(x, y)])

    def density(points: np.ndarray) -> np.ndarray:
        kernels = gaussian_kde(points[:, :2].T, lambda kde: kde.scotts_factor() / 3)
        return np.asarray(kernels(places))

    peak = float(density(next((c for c in shown if c.title == _DATA), cloud).points).max())
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


def _limits(shown: list[SampleCloud]) -> tuple[np.ndarray, np.ndarray]:
    """The frame of all panels: that of data and base, so that an outlier hides nothing."""
    unguided = [cloud.points for cloud in shown if not cloud.is_guided]
    points = np.concatenate(unguided or [cloud.points for cloud in shown])[:, :2]
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    margin = 0.12 * np.maximum(high - low, 1e-9)
    return low - margin, high + margin


def _setting(table: StudyTable, rows: dict[str, list[SampleCloud]]) -> str:
    """The setting of the trials shown, in brackets."""
    models = hardest(trained(table.models), roles(table).capacity)
    parts = []
    if len(models):
        axes = [a for a in table.axes if a != OBJECTIVE and models[a].nunique() == 1]
        parts = [f"{short(a)} {number(models[a].iloc[0])}" for a in axes] + ["last checkpoint"]
    first = next(cloud for shown in rows.values() for cloud in shown)
    dimension = first.points.shape[1]
    if first.shape is not None:
        parts.append("the same seeds in every model")
    elif dimension > 2:
        parts.append(f"the first two of {dimension} coordinates")
    return f" ({', '.join(parts)})" if parts else ""
